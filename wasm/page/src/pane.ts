// One of the two panes: a picture or a camera, with the faces that were found in it.

import type { Analysis, Face, Timings } from "../../pkg/index.js";
import { Announcer } from "./announcer.js";
import { Camera } from "./camera.js";
import { Interrupted, type Client } from "./client.js";
import { FaceList } from "./faces.js";
import { Follower, inOrder } from "./follow.js";
import type { Settings } from "./messages.js";
import { drawOverlay } from "./overlay.js";

/** The page, as a pane uses it. */
export interface PageContext {
    client: Client;
    settings: () => Settings;
    /** Must be called when the faces of the pane have changed. */
    changed: () => void;
    /** Must be called when the highlighted face of the pane has changed. */
    lit: () => void;
    /** True if another pane has faces to compare with. */
    compared: (pane: Pane) => boolean;
}

const STAGES: [keyof Timings, string][] = [
    ["decode", "decode"],
    ["detect", "detect"],
    ["align", "align"],
    ["recognize", "recognize"],
];

/** Maximum side of the detection canvas for camera frames. Faces in front of a camera are large. */
const MAX_LIVE_CANVAS = 320;
/** Maximum size of a file in bytes, so that a file that is not a picture cannot exhaust the memory of the page. */
const MAX_BYTES = 64 << 20;

export class Pane {
    readonly letter: string;
    readonly element: HTMLElement;
    #page: PageContext;
    #analysis: Analysis | undefined;
    #file: Blob | undefined;
    #camera: Camera | undefined;
    /** A camera is being opened. This can wait for the user's permission. */
    #opening = false;
    #mirrored = false;
    #faces: FaceList;
    #announcer: Announcer;
    /** Index of the face whose button is pressed. */
    #pressed: number | undefined;
    /** Index of the face under the pointer or the focus in the table. */
    #pointed: number | undefined;
    /** Finds the pressed face in the camera's next frame. */
    #follower: Follower | undefined;
    /** Number of inputs so far; replies about earlier inputs are ignored. */
    #generation = 0;

    constructor(letter: string, page: PageContext) {
        const template = document.querySelector<HTMLTemplateElement>("#pane");
        const element = template?.content.firstElementChild?.cloneNode(true);
        if (!(element instanceof HTMLElement)) throw new Error("The template #pane is missing.");
        this.letter = letter;
        this.element = element;
        this.#page = page;
        element.id = `pane-${letter}`;
        this.#part(".letter").textContent = letter;
        element.setAttribute("aria-label", `Picture ${letter}`);
        this.#part(".faces").setAttribute("aria-label", `Faces of picture ${letter}`);
        this.#faces = new FaceList(this.#part(".faces"), letter, (index) => this.#press(this.#pressed === index ? undefined : index));
        this.#announcer = new Announcer(this.#part(".said"));

        const input = this.#part<HTMLInputElement>(".file");
        input.setAttribute("aria-label", `File for picture ${letter}`);
        for (const button of element.querySelectorAll(".choose")) button.addEventListener("click", () => input.click());
        for (const button of element.querySelectorAll(".camera")) button.addEventListener("click", () => this.openCamera());
        this.#part(".turn").addEventListener("click", () => this.switchCamera());
        this.#part(".clear").addEventListener("click", () => this.clear());
        this.#part(".snap").addEventListener("click", () => this.keepFrame());
        input.addEventListener("change", () => {
            const file = input.files?.[0];
            input.value = "";
            if (file) void this.open(file);
        });
        new ResizeObserver(() => this.#draw()).observe(this.#part(".stage"));
        this.#summarise(undefined);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    }

    get faces(): Face[] {
        return this.#analysis?.faces ?? [];
    }

    get empty(): boolean {
        return this.element.dataset["state"] === "empty";
    }

    get live(): boolean {
        return this.#camera !== undefined;
    }

    /** Index of the highlighted face. */
    get lit(): number | undefined {
        return this.#pointed ?? this.#pressed;
    }

    /** Highlights a face from the table. `undefined` highlights the face whose button is pressed again. */
    point(index: number | undefined) {
        if (this.#pointed === index) return;
        this.#pointed = index;
        this.#mark();
    }

    #press(index: number | undefined) {
        this.#pressed = index;
        const face = index === undefined ? undefined : this.faces[index];
        this.#follower = face && new Follower(face);
        this.#mark();
    }

    #mark() {
        this.#faces.mark(this.#pressed, this.lit);
        this.#page.lit();
        this.#draw();
    }

    /**
     * Analyzes and displays a picture file. If that fails, the pane displays the error and keeps its previous picture.
     */
    async open(file: Blob) {
        if (file.size > MAX_BYTES) {
            this.#fail(`This file is too large: ${Math.ceil(file.size / 1e6)} MB. The limit is ${Math.floor(MAX_BYTES / 1e6)} MB.`);
            return;
        }
        const generation = ++this.#generation;
        this.#fail(undefined);
        this.#part(".working").hidden = false;
        try {
            const { analysis, bitmap } = await this.#page.client.picture(file, this.#page.settings());
            if (generation !== this.#generation || !bitmap) return;
            this.#stopCamera();
            this.#file = file;
            const base = this.#part<HTMLCanvasElement>(".base");
            base.width = bitmap.width;
            base.height = bitmap.height;
            base.getContext("bitmaprenderer")?.transferFromImageBitmap(bitmap);
            this.#state("picture");
            this.#show(analysis);
        } catch (error) {
            if (generation !== this.#generation) return;
            this.#fail(error);
            // The camera is still open: continue with its frames.
            if (this.#camera) void this.#watch(this.#camera, generation);
        } finally {
            if (generation === this.#generation) this.#part(".working").hidden = true;
        }
    }

    /** Analyzes the same picture again, for example with changed options. */
    async refresh() {
        if (this.#file && !this.#camera) await this.open(this.#file);
    }

    /**
     * Opens a camera, by default the front camera, and analyzes its frames. If that fails, the pane displays the error
     * and keeps its previous picture. Has no effect while a camera is open or being opened.
     */
    async openCamera(which?: MediaTrackConstraints) {
        if (this.#camera || this.#opening) return;
        const generation = ++this.#generation;
        this.#opening = true;
        this.#fail(undefined);
        this.#part(".working").hidden = true;
        const video = this.#part<HTMLVideoElement>(".video");
        try {
            const camera = await Camera.open(video, which);
            if (generation !== this.#generation) return camera.close();
            this.#camera = camera;
            this.#file = undefined;
            this.#mirrored = camera.mirrored;
            video.classList.toggle("mirrored", camera.mirrored);
            this.#part(".turn").hidden = !camera.other;
            this.#state("camera");
            this.#show(undefined);
            void this.#watch(camera, generation);
        } catch (error) {
            if (generation !== this.#generation) return;
            // After a switch of cameras the previous one is closed.
            if (this.element.dataset["state"] === "camera") this.clear();
            this.#fail(error);
        } finally {
            this.#opening = false;
        }
    }

    /** Switches to the device's next camera. Closes the current one first, because few phones can run two at once. */
    async switchCamera() {
        const other = this.#camera?.other;
        if (!other) return;
        this.#generation++;
        this.#stopCamera();
        await this.openCamera(other);
    }

    /** Analyzes one frame after the other until the pane has another input. */
    async #watch(camera: Camera, generation: number) {
        try {
            while (generation === this.#generation) {
                const bitmap = await camera.frame();
                const settings = this.#page.settings();
                settings.canvas = Math.min(settings.canvas, MAX_LIVE_CANVAS);
                const found = await this.#page.client.frame(bitmap, settings, this.#page.compared(this)).catch((error: Error) => {
                    // The worker was replaced; the next frame waits for the new one.
                    if (!(error instanceof Interrupted)) throw error;
                });
                if (found && generation === this.#generation) this.#show(found.analysis);
            }
        } catch (error) {
            if (generation !== this.#generation) return;
            this.clear();
            this.#fail(error);
        }
    }

    /** Opens the camera's current frame as a picture. */
    async keepFrame() {
        const frame = await this.#camera?.still();
        if (frame) await this.open(frame);
    }

    /** Removes the picture or closes the camera. */
    clear() {
        this.#generation++;
        this.#stopCamera();
        this.#file = undefined;
        this.#fail(undefined);
        this.#part(".working").hidden = true;
        this.#state("empty");
        this.#show(undefined);
    }

    #stopCamera() {
        this.#camera?.close();
        this.#camera = undefined;
        this.#mirrored = false;
    }

    #state(state: "empty" | "picture" | "camera") {
        const focused = document.activeElement;
        this.element.dataset["state"] = state;
        this.#part(".empty").hidden = state !== "empty";
        this.#part(".tools").hidden = state === "empty";
        this.#part(".tools .camera").hidden = state === "camera";
        this.#part(".snap").hidden = state !== "camera";
        if (state !== "camera") this.#part(".turn").hidden = true;
        this.#part(".base").hidden = state !== "picture";
        this.#part(".video").hidden = state !== "camera";
        this.#part(".overlay").hidden = state === "empty";
        // If the focused button is now hidden, the focus moves to the button in its place.
        if (focused && this.element.contains(focused) && focused.getClientRects().length === 0) {
            this.#part(state === "empty" ? ".empty .choose" : ".tools .choose").focus();
        }
    }

    #show(analysis: Analysis | undefined) {
        const live = this.#camera !== undefined;
        if (analysis && live) analysis = { ...analysis, faces: inOrder(this.faces, analysis.faces) };
        this.#analysis = analysis;
        if (analysis && live) this.#pressed = this.#follower?.find(analysis.faces);
        else this.#pressed = this.#follower = undefined;
        if ((this.#pointed ?? 0) >= this.faces.length) this.#pointed = undefined;
        this.#part(".result").hidden = !analysis;
        this.#summarise(analysis);
        if (analysis) {
            this.#faces.show(analysis.faces, live);
            this.#faces.mark(this.#pressed, this.lit);
            this.#showTimings(analysis.timings);
        }
        this.#draw();
        this.#page.changed();
    }

    #summarise(analysis: Analysis | undefined) {
        const found = this.faces.length;
        const count = found === 0 ? "No faces found" : found === 1 ? "1 face" : `${found} faces`;
        const [text, small] = analysis
            ? [count, `${this.#camera ? "camera, " : ""}${analysis.width} × ${analysis.height}${this.#camera ? "" : " pixels"}`]
            : [this.#camera ? "Camera" : "No picture", ""];
        this.#announcer.say(text, text, this.#camera !== undefined);
        const summary = this.#part(".summary");
        if (summary.textContent === text + small) return;
        summary.replaceChildren(text, Object.assign(document.createElement("span"), { textContent: small }));
        this.#part(".overlay").setAttribute("aria-label", `Picture ${this.letter}: ${text}`);
    }

    #showTimings(timings: Timings) {
        const total = STAGES.reduce((sum, [stage]) => sum + timings[stage], 0);
        const entry = (name: string, ms: number, stage?: string) => {
            const group = document.createElement("div");
            if (stage) group.className = stage;
            const term = Object.assign(document.createElement("dt"), { textContent: name });
            const value = Object.assign(document.createElement("dd"), { textContent: `${ms.toFixed(ms < 9.95 ? 1 : 0)} ms` });
            group.append(term, value);
            return group;
        };
        for (const [stage] of STAGES) this.#part(`.bar .${stage}`).style.flexGrow = String(timings[stage]);
        const entries = STAGES.map(([stage, name]) => entry(name, timings[stage], stage));
        this.#part(".timings").replaceChildren(...entries, entry("total", total));
    }

    #draw() {
        const overlay = this.#part<HTMLCanvasElement>(".overlay");
        const analysis = this.#analysis;
        if (overlay.hidden) return;
        drawOverlay(overlay, analysis && { ...analysis, mirrored: this.#mirrored, letter: this.letter, lit: this.lit });
    }

    #fail(error: unknown) {
        const alert = this.#part(":scope > .alert");
        alert.hidden = error === undefined;
        alert.textContent = error === undefined ? "" : sentence(error instanceof Error ? error.message : String(error));
    }

    #part<T extends HTMLElement = HTMLElement>(selector: string): T {
        const part = this.element.querySelector<T>(selector);
        if (!part) throw new Error(`The element ${selector} is missing.`);
        return part;
    }
}

/** `text` with a capital letter at its start and a full stop at its end. */
export function sentence(text: string): string {
    const start = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!?]$/.test(start) ? start : `${start}.`;
}
