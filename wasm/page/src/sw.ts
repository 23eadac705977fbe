// The service worker: stores the page, so that later visits need no network.

import { CACHE } from "./cache.js";

const scope = self as unknown as ServiceWorkerGlobalScope;
/** The small files of the page. The page's worker stores the modules and networks when it fetches them. */
const SHELL = ["./", "style.css", "app.js", "worker.js", "thread.js", "icon.svg", "app.webmanifest"];

scope.addEventListener("install", (event) => {
    const fill = async () => {
        const cache = await caches.open(CACHE);
        await cache.addAll(SHELL.map((url) => new Request(url, { cache: "no-cache" })));
        await inherit(cache);
        await scope.skipWaiting();
    };
    event.waitUntil(fill());
});

/**
 * Fetches the current versions of the large files that caches of older versions contain. `activate` deletes those
 * caches, and an open page does not fetch the files again. A failure keeps the older version, which works without a
 * network.
 */
async function inherit(cache: Cache) {
    const older = await Promise.all((await outdated()).map(async (name) => (await caches.open(name)).keys()));
    const urls = new Set(older.flat().map(({ url }) => url));
    const fetchFile = async (url: string) => {
        if (await cache.match(url)) return;
        const response = await fetch(url, { cache: "no-cache" });
        // 404: this version of the page does not have the file.
        if (response.ok) await cache.put(url, response);
        else if (response.status !== 404) throw new Error(`${response.status} for ${url}`);
    };
    await Promise.all([...urls].map(fetchFile));
}

/** Names of the caches of other versions. */
async function outdated(): Promise<string[]> {
    return (await caches.keys()).filter((name) => name.startsWith("ifr-") && name !== CACHE);
}

scope.addEventListener("activate", (event) => {
    const tidy = async () => {
        await Promise.all((await outdated()).map((name) => caches.delete(name)));
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
