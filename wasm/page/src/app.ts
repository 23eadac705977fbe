// The page: two picture panes, the similarity table, the options, and files that are dropped or pasted.

import { Client } from "./client.js";
import { ThreadToggle } from "./thread-toggle.js";
import { Matrix } from "./matrix.js";
import type { Settings } from "./messages.js";
import { Pane, sentence, type PageContext } from "./pane.js";

function byId<T extends HTMLElement>(id: string): T {
    const element = document.getElementById(id);
    if (!element) throw new Error(`The element #${id} is missing.`);
    return element as T;
}

const status = byId("status");
const percent = byId("percent");
const progress = byId<HTMLProgressElement>("progress");
const options = byId<HTMLFormElement>("options");

function showStatus(state: "loading" | "ready" | "failed", text: string) {
    status.dataset["state"] = state;
    if (state !== "loading") percent.textContent = "";
    const label = status.querySelector(".text");
    if (label && label.textContent !== text) label.textContent = text;
}

const threadToggle = new ThreadToggle(byId("cores"), byId("cores-note"));

function showProgress(share: number) {
    progress.hidden = share >= 1;
    progress.value = share;
    // Not part of the status, because screen readers announce each change of the status.
    percent.textContent = share >= 1 ? "" : `${Math.round(share * 100)} %`;
    showStatus("loading", share >= 1 ? "Preparing the networks" : "Loading the networks");
}

const client = new Client(threadToggle.threads, showProgress, () => {
    threadToggle.lost();
    showStatus("loading", "Preparing the networks");
    load();
});

function settings(): Settings {
    const data = new FormData(options);
    return { threshold: Number(data.get("threshold")), canvas: Number(data.get("canvas")), limitFaces: Number(data.get("limit")) };
}

const page: PageContext = {
    client,
    settings,
    changed: () => compare(),
    lit: () => matrix.light([a.lit, b.lit]),
    compared: (pane) => panes.some((other) => other !== pane && other.faces.length > 0),
};
const a = new Pane("A", page);
const b = new Pane("B", page);
const panes = [a, b];
byId("pictures").append(a.element, b.element);

const parts = { table: byId("matrix"), verdict: byId("verdict"), said: byId("verdict-said"), note: byId("matrix-note") };
const matrix = new Matrix(parts, (x, y) => client.nearest(x, y), ([i, j]) => {
    a.point(i);
    b.point(j);
});

function compare() {
    matrix.show(a, b);
    matrix.light([a.lit, b.lit]);
}

/** Shows a message about the whole page. An empty text hides it. */
function showNotice(text: string) {
    const line = byId("notice");
    line.textContent = text;
    line.hidden = !text;
}

/** Opens one picture per pane. The first goes to `target`, otherwise to an empty pane, otherwise to pane B. */
function openFiles(files: Iterable<File>, target?: Pane) {
    const pictures = [...files];
    const surplus = pictures.splice(panes.length).map(({ name }) => name);
    const names = surplus.length < 4 ? surplus.join(", ") : `${surplus.slice(0, 2).join(", ")} and ${surplus.length - 2} more`;
    showNotice(surplus.length ? `Only two pictures can be compared. Not opened: ${names}.` : "");
    let to = target ?? panes.find((pane) => pane.empty) ?? b;
    for (const file of pictures) {
        void to.open(file);
        to = to === a ? b : a;
    }
}

function paneOf(event: Event): Pane | undefined {
    return panes.find((pane) => event.target instanceof Node && pane.element.contains(event.target));
}

function markDropTarget(target: Pane | undefined) {
    for (const pane of panes) pane.element.classList.toggle("dropping", pane === target);
}

window.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    markDropTarget(paneOf(event) ?? panes.find((pane) => pane.empty));
});
window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) markDropTarget(undefined);
});
window.addEventListener("drop", (event) => {
    event.preventDefault();
    markDropTarget(undefined);
    openFiles(event.dataTransfer?.files ?? [], paneOf(event));
});
window.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) openFiles(files, paneOf(event));
});

options.addEventListener("input", () => {
    byId("threshold-value").textContent = settings().threshold?.toFixed(2) ?? "";
});
// Runs before the "change" listener of the form, which analyzes the pictures again.
threadToggle.changed = (threads) => {
    showStatus("loading", "Preparing the networks");
    client.useThreads(threads);
    load();
};
options.addEventListener("change", () => panes.forEach((pane) => void pane.refresh()));
options.addEventListener("submit", (event) => event.preventDefault());

// The orientation of the table depends on the width of the screen.
matchMedia("(min-width: 761px)").addEventListener("change", compare);
compare();
let latest: Promise<unknown>;

function load() {
    const loading = client.load();
    latest = loading;
    loading.then(
        ({ build, threads }) => {
            if (loading !== latest) return;
            progress.hidden = true;
            showStatus("ready", "Ready");
            threadToggle.got(threads);
            byId("build").textContent = `${build === "relaxed" ? " with relaxed SIMD" : " with SIMD"}${threads > 1 ? ` on ${threads} threads` : ""}`;
        },
        (error: Error) => {
            if (loading !== latest) return;
            progress.hidden = true;
            showStatus("failed", "Not available");
            const alert = byId("fatal");
            alert.textContent = `${sentence(error.message)} Reload the page to try again.`;
            alert.hidden = false;
        },
    );
}
load();

// Missing if the page was loaded over plain HTTP from another machine. The page then works online only.
navigator.serviceWorker?.register("sw.js", { updateViaCache: "none" }).catch(() => {});

// For the browser's console and the tests.
Object.assign(window, { ifr: { panes, compare } });
