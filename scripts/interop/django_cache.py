"""A small Django project whose cache is the server: python django_cache.py PORT PORT."""

import sys
import time

import django
from django.conf import settings

open_port, locked_port = map(int, sys.argv[1:])
REDIS = "django.core.cache.backends.redis.RedisCache"
settings.configure(
    SECRET_KEY="interop",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    MIDDLEWARE=[
        "django.middleware.cache.UpdateCacheMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
    ],
    CACHES={
        "default": {"BACKEND": REDIS, "LOCATION": f"redis://127.0.0.1:{open_port}"},
        "locked": {"BACKEND": REDIS, "LOCATION": f"redis://default:open%20sesame@127.0.0.1:{locked_port}"},
        "wrong": {"BACKEND": REDIS, "LOCATION": f"redis://default:wrong@127.0.0.1:{locked_port}"},
    },
)
django.setup()

import redis
from django.core.cache import cache, caches
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.views.decorators.cache import never_cache

rendered = []


def page(request):
    rendered.append(request.path)
    return HttpResponse("page " * 20_000)


@never_cache
def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))


urlpatterns = [path("page", page), path("visits", visits)]

cache.clear()
assert cache.get("a") is None and cache.get("a", 7) == 7
cache.set("a", {"any": ["object", 1, None]}, 100)
assert cache.get("a") == {"any": ["object", 1, None]}
assert cache.add("a", 1) is False and cache.add("b", 1) is True
assert cache.get_or_set("c", lambda: 3) == 3
cache.set("number", 5)
assert cache.incr("number") == 6 and cache.decr("number", 2) == 4
try:
    cache.incr("none")
except ValueError:
    pass
else:
    raise AssertionError("a missing key is no number to Django")
assert cache.set_many({f"m{n}": n for n in range(2000)}, 50) == []
assert cache.get_many([f"m{n}" for n in range(2000)] + ["none"]) == {f"m{n}": n for n in range(2000)}
cache.delete_many([f"m{n}" for n in range(1000)])
assert not cache.has_key("m999") and "m1000" in cache
assert cache.touch("a", 0.05) is True or cache.touch("a", 1) is True
cache.set("short", 1, 1)
assert cache.get("short") == 1
time.sleep(1.1)
assert cache.get("short") is None
cache.set("large", b"\0\r\n" * 1_000_000)
assert cache.get("large") == b"\0\r\n" * 1_000_000
assert cache.delete("large") is True and cache.delete("large") is False
cache.set("versioned", 1)
assert cache.incr_version("versioned") == 2 and cache.get("versioned", version=2) == 1

client = Client()
assert client.get("/page").content == client.get("/page").content == b"page " * 20_000
assert rendered == ["/page"], "the second came from the cache"
assert [client.get("/visits").content for _ in range(3)] == [b"1", b"2", b"3"]

caches["locked"].set("a", 1)
assert caches["locked"].get("a") == 1
try:
    caches["wrong"].get("a")
except redis.AuthenticationError:
    pass
else:
    raise AssertionError("a wrong password")
cache.clear()
assert cache.get("a") is None
print("cache, pages and sessions: fine")
