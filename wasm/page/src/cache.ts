// The browser cache of the page's files, for use without a network.

declare const __VERSION__: string;

/** Name of the cache. Each version of the page has its own; the service worker deletes the others. */
export const CACHE = `ifr-${__VERSION__}`;

/** Fetches a file and stores it. Later calls return the stored copy, also after a restart and without a network. */
export async function cachedFetch(url: URL): Promise<Response> {
    // Missing if the page was loaded over plain HTTP from another machine; private windows may refuse access.
    const cache = "caches" in self ? await caches.open(CACHE).catch(() => undefined) : undefined;
    const stored = await cache?.match(url);
    if (stored) return stored;
    const response = await fetch(url);
    // A failure to store the copy, for example on a full disk, does not affect the page.
    if (response.ok) cache?.put(url, response.clone()).catch(() => {});
    return response;
}
