// The service worker: the page opens without a network once it has been opened with one.

import { CACHE } from "./cache.js";

const scope = self as unknown as ServiceWorkerGlobalScope;
/** The small files. The worker of the page stores the large ones as it fetches them. */
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
 * Fetches what older versions had stored beside the shell: the page that is open has these files already and will not ask again, and
 * `activate` drops them. When that fails the older version stays, which works without a network.
 */
async function inherit(cache: Cache) {
    const older = await Promise.all((await outdated()).map(async (name) => (await caches.open(name)).keys()));
    const urls = new Set(older.flat().map(({ url }) => url));
    const fetchFile = async (url: string) => {
        if (await cache.match(url)) return;
        const response = await fetch(url, { cache: "no-cache" });
        // A file that this version does not have any more is not missed.
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
