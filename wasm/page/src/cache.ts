// The files the page needs, kept for when there is no network.

declare const __VERSION__: string;

/** One cache for each version of the page; the service worker drops the others. */
export const CACHE = `ifr-${__VERSION__}`;

/** Fetches a file once: later calls, also after a restart and without a network, get the stored copy. */
export async function cachedFetch(url: URL): Promise<Response> {
    // Not there in pages that came over plain HTTP from another machine; private windows may refuse it.
    const cache = "caches" in self ? await caches.open(CACHE).catch(() => undefined) : undefined;
    const stored = await cache?.match(url);
    if (stored) return stored;
    const response = await fetch(url);
    // A full disk costs the copy, not the page.
    if (response.ok) cache?.put(url, response.clone()).catch(() => {});
    return response;
}
