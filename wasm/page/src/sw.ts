// The service worker: the page opens without a network once it has been opened with one.

import { CACHE } from "./cache.js";

const scope = self as unknown as ServiceWorkerGlobalScope;
/** The small files. The worker of the page stores the large ones as it fetches them. */
const SHELL = ["./", "style.css", "app.js", "worker.js", "thread.js", "icon.svg", "app.webmanifest"];

scope.addEventListener("install", (event) => {
    const fill = async () => {
        const cache = await caches.open(CACHE);
        await cache.addAll(SHELL.map((url) => new Request(url, { cache: "no-cache" })));
        await scope.skipWaiting();
    };
    event.waitUntil(fill());
});

scope.addEventListener("activate", (event) => {
    const tidy = async () => {
        const old = (await caches.keys()).filter((name) => name.startsWith("ifr-") && name !== CACHE);
        await Promise.all(old.map((name) => caches.delete(name)));
        await scope.clients.claim();
    };
    event.waitUntil(tidy());
});

scope.addEventListener("fetch", (event) => {
    if (event.request.method !== "GET" || !event.request.url.startsWith(scope.registration.scope)) return;
    const serve = async () => {
        const stored = await (await caches.open(CACHE)).match(event.request, { ignoreSearch: true });
        return stored ?? fetch(event.request);
    };
    event.respondWith(serve());
});
