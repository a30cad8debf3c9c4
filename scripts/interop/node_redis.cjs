// node-redis against a server of its own, and one that wants a password: node node_redis.cjs PORT PORT.
const assert = require("node:assert");
const { setTimeout: sleep } = require("node:timers/promises");
const { createClient, RESP_TYPES } = require("redis");

const [openPort, lockedPort] = process.argv.slice(2).map(Number);

async function serve(RESP) {
  const client = createClient({ RESP, name: "interop", socket: { port: openPort, host: "127.0.0.1" } });
  client.on("error", () => {});
  await client.connect();
  await client.flushAll();
  assert.equal(await client.set("a", "1"), "OK");
  assert.equal(await client.get("a"), "1");
  assert.equal(await client.get("none"), null);
  assert.equal(await client.set("a", "2", { EX: 100, GET: true }), "1");
  assert.equal(await client.ttl("a"), 100);
  assert.equal(await client.incrBy("a", 40), 42);
  await client.mSet({ x: "1", y: "2" });
  assert.deepEqual(await client.mGet(["x", "none", "y"]), ["1", null, "2"]);
  assert.equal(await client.del(["x", "y", "none"]), 2);
  await assert.rejects(client.lPush("list", "1"), /unknown command/);

  const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  const binary = Buffer.from([...Array(256).keys()]);
  await client.set(binary, binary);
  assert.deepEqual(await buffers.get(binary), binary);
  const large = Buffer.alloc(5_000_000, "0123456789\r\n");
  await client.set("large", large);
  assert(large.equals(await buffers.get("large")));

  assert.deepEqual(await client.multi().set("t", "1").incr("t").get("t").exec(), ["OK", 2, "2"]);
  assert.deepEqual(await client.multi().set("t", "5").get("t").execAsPipeline(), ["OK", "5"]);
  await Promise.all(Array.from({ length: 2000 }, (_, n) => client.set(`many${n}`, `${n}`)));
  let found = 0;
  for await (const keys of client.scanIterator({ MATCH: "many*", COUNT: 300 })) found += keys.length;
  assert.equal(found, 2000);

  await client.set("short", "1", { PX: 50 });
  await sleep(80);
  assert.equal(await client.get("short"), null);
  assert.match(await client.info("server"), /redis_version/);
  assert.equal((await client.clientList()).filter((other) => other.name === "interop").length, 1);

  const killer = createClient({ RESP, socket: { port: openPort, host: "127.0.0.1" } });
  await killer.connect();
  assert.equal(await killer.sendCommand(["CLIENT", "KILL", "ID", String(await client.clientId())]), 1);
  await sleep(300);
  assert.equal(await client.get("t"), "5", "it has connected again");

  const locked = createClient({ RESP, password: "open sesame", socket: { port: lockedPort, host: "127.0.0.1" } });
  await locked.connect();
  assert.equal(await locked.set("a", "1"), "OK");
  const wrong = createClient({
    RESP,
    password: "wrong",
    socket: { port: lockedPort, host: "127.0.0.1", reconnectStrategy: false },
  });
  wrong.on("error", () => {});
  await assert.rejects(wrong.connect(), /WRONGPASS/);
  for (const other of [client, killer, locked]) other.destroy();
  console.log(`RESP${RESP}: fine`);
}

serve(2)
  .then(() => serve(3))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
