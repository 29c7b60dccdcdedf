// Keeps this page's files, so that it works offline: these from the start, others when they are
// used. tools/try_page.py sets the two constants.

const VERSION = "";
const FILES = [];

self.addEventListener("install", (event) => {
  const kept = caches.open(VERSION).then((cache) => cache.addAll(FILES));
  event.waitUntil(kept.then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const mine = (name) => name.startsWith("edgelora-try-") && name !== VERSION;
  const cleared = caches.keys().then((names) => Promise.all(names.filter(mine).map((name) => caches.delete(name))));
  event.waitUntil(cleared.then(() => self.clients.claim()));
});

async function answer(request) {
  const kept = await caches.match(request, { ignoreSearch: true });
  if (kept) return kept;
  const found = await fetch(request);
  if (found.ok && request.destination === "script") (await caches.open(VERSION)).put(request, found.clone());
  return found;
}

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});
