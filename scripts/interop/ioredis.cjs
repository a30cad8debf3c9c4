// ioredis against a server of its own, and one that wants a password: node ioredis.cjs PORT PORT.
const assert = require("node:assert");
const { setTimeout: sleep } = require("node:timers/promises");
const Redis = require("ioredis");

const [openPort, lockedPort] = process.argv.slice(2).map(Number);

async function main() {
  const redis = new Redis(openPort, { keyPrefix: "ioredis:" });
  await redis.flushall();
  assert.equal(await redis.set("a", "1"), "OK");
  assert.equal(await redis.get("a"), "1");
  assert.equal(await redis.get("none"), null);
  assert.equal(await redis.set("a", "2", "EX", 100, "NX"), null);
  assert.equal(await redis.set("a", "2", "EX", 100, "GET"), "1");
  assert.equal(await redis.ttl("a"), 100);
  assert.equal(await redis.incrby("a", 40), 42);
  assert.deepEqual(await redis.mset("x", "1", "y", "2"), "OK");
  assert.deepEqual(await redis.mget("x", "none", "y"), ["1", null, "2"]);
  assert.equal(await redis.del("x", "y", "none"), 2);
  await assert.rejects(redis.lpush("list", "1"), /unknown command/);

  const binary = Buffer.from([...Array(256).keys()]);
  await redis.set(binary, binary);
  assert.deepEqual(await redis.getBuffer(binary), binary);
  const large = Buffer.alloc(5_000_000, "0123456789\r\n");
  await redis.set("large", large);
  assert(large.equals(await redis.getBuffer("large")));

  const replies = await redis.pipeline().set("p", "1").incr("p").get("p").lpush("p", "x").exec();
  assert.deepEqual(replies.slice(0, 3).map(([error, reply]) => [error, reply]), [[null, "OK"], [null, 2], [null, "2"]]);
  assert.match(replies[3][0].message, /unknown command/);
  assert.deepEqual(await redis.multi().set("t", "1").incr("t").exec(), [[null, "OK"], [null, 2]]);
  await assert.rejects(redis.multi().set("t", "9").lpush("t", "x").exec(), /EXECABORT/);
  assert.equal(await redis.get("t"), "2");
  const many = await Promise.all(Array.from({ length: 2000 }, (_, n) => redis.set(`many${n}`, n)));
  assert.equal(many.length, 2000);

  await redis.set("short", "1", "PX", 50);
  await sleep(80);
  assert.equal(await redis.get("short"), null);

  let found = 0;
  const stream = redis.scanStream({ match: "ioredis:many*", count: 300 });
  for await (const keys of stream) found += keys.length;
  assert.equal(found, 2000);

  const id = await redis.client("ID");
  const other = new Redis(openPort);
  assert.equal(await other.client("KILL", "ID", id), 1);
  await sleep(100);
  assert.equal(await redis.get("t"), "2", "it has connected again");

  const locked = new Redis(lockedPort, { password: "open sesame" });
  assert.equal(await locked.set("a", "1"), "OK");
  const wrong = new Redis(lockedPort, { password: "wrong", retryStrategy: null, lazyConnect: true });
  wrong.on("error", () => {});
  await assert.rejects(wrong.get("a"), /NOAUTH|WRONGPASS|closed/);
  for (const client of [redis, other, locked, wrong]) client.disconnect();
  console.log("fine");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
