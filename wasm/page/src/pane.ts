// One of the two pictures: where it comes from, what is shown, what was found.

import type { Analysis, Face, Timings } from "../../pkg/index.js";
import { Announcer } from "./announcer.js";
import { Camera } from "./camera.js";
import { Interrupted, type Client } from "./client.js";
import { FaceList } from "./faces.js";
import { Follower, inOrder } from "./follow.js";
import type { Settings } from "./messages.js";
import { drawOverlay } from "./overlay.js";

/** What a pane needs of the page. */
export interface Surroundings {
    client: Client;
    settings: () => Settings;
    /** Faces came or went. */
    changed: () => void;
    /** Another face is stressed, or none. */
    lit: () => void;
    /** Another pane has faces to compare with. */
    compared: (pane: Pane) => boolean;
}

const STAGES: [keyof Timings, string][] = [
    ["decode", "decode"],
    ["detect", "detect"],
    ["align", "align"],
    ["recognize", "recognise"],
];

/** Live pictures are searched at this size at most: who sits before a camera is large. */
const LIVE_CANVAS = 320;
/** Larger files are refused unread: they are no pictures, and reading them takes the memory the page has. */
const MOST_BYTES = 64 << 20;

export class Pane {
    readonly letter: string;
    readonly element: HTMLElement;
    #page: Surroundings;
    #analysis: Analysis | undefined;
    #file: Blob | undefined;
    #camera: Camera | undefined;
    /** A camera was asked for, which may take as long as a question to the user. */
    #opening = false;
    #mirrored = false;
    #faces: FaceList;
    #announcer: Announcer;
    /** The face whose button is pressed, and the one the table points at. */
    #pressed: number | undefined;
    #pointed: number | undefined;
    /** Finds the pressed face in the camera's next frame. */
    #follower: Follower | undefined;
    /** Counts what was put in, so that answers to older questions are dropped. */
    #turn = 0;

    constructor(letter: string, page: Surroundings) {
        const template = document.querySelector<HTMLTemplateElement>("#pane");
        const element = template?.content.firstElementChild?.cloneNode(true);
        if (!(element instanceof HTMLElement)) throw new Error("The page is incomplete.");
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
        this.#part(".turn").addEventListener("click", () => this.turnCamera());
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

    /** Index of the face that is stressed. */
    get lit(): number | undefined {
        return this.#pointed ?? this.#pressed;
    }

    /** Stresses a face from elsewhere for a while; with none, the one whose button is pressed is stressed again. */
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

    /** Shows and analyses a picture file. What cannot be read is told in the pane, and what was there stays. */
    async open(file: Blob) {
        if (file.size > MOST_BYTES) {
            this.#fail(`This file has ${Math.ceil(file.size / 1e6)} MB; pictures of up to ${Math.floor(MOST_BYTES / 1e6)} MB are read.`);
            return;
        }
        const turn = ++this.#turn;
        this.#fail(undefined);
        this.#part(".working").hidden = false;
        try {
            const { analysis, bitmap } = await this.#page.client.picture(file, this.#page.settings());
            if (turn !== this.#turn || !bitmap) return;
            this.#stopCamera();
            this.#file = file;
            const base = this.#part<HTMLCanvasElement>(".base");
            base.width = bitmap.width;
            base.height = bitmap.height;
            base.getContext("bitmaprenderer")?.transferFromImageBitmap(bitmap);
            this.#state("picture");
            this.#show(analysis);
        } catch (error) {
            if (turn !== this.#turn) return;
            this.#fail(error);
            // The camera was still running behind the question.
            if (this.#camera) void this.#watch(this.#camera, turn);
        } finally {
            if (turn === this.#turn) this.#part(".working").hidden = true;
        }
    }

    /** Analyses the same picture again, after the options changed. */
    async refresh() {
        if (this.#file && !this.#camera) await this.open(this.#file);
    }

    /**
     * Searches what the camera sees; `which` asks for another than the front one. When there is none, that is told, and what was
     * there stays. Until it is decided, further calls do nothing.
     */
    async openCamera(which?: MediaTrackConstraints) {
        if (this.#camera || this.#opening) return;
        const turn = ++this.#turn;
        this.#opening = true;
        this.#fail(undefined);
        this.#part(".working").hidden = true;
        const video = this.#part<HTMLVideoElement>(".video");
        try {
            const camera = await Camera.open(video, which);
            if (turn !== this.#turn) return camera.close();
            this.#camera = camera;
            this.#file = undefined;
            this.#mirrored = camera.mirrored;
            video.classList.toggle("mirrored", camera.mirrored);
            this.#part(".turn").hidden = !camera.other;
            this.#state("camera");
            this.#show(undefined);
            void this.#watch(camera, turn);
        } catch (error) {
            if (turn !== this.#turn) return;
            // The camera that was turned away from is off.
            if (this.element.dataset["state"] === "camera") this.clear();
            this.#fail(error);
        } finally {
            this.#opening = false;
        }
    }

    /** Goes on with the device's other camera. Few phones run both at once, so the present one is closed first. */
    async turnCamera() {
        const other = this.#camera?.other;
        if (!other) return;
        this.#turn++;
        this.#stopCamera();
        await this.openCamera(other);
    }

    /** Analyses frame after frame, each as soon as the one before is done, until something else is put in. */
    async #watch(camera: Camera, turn: number) {
        try {
            while (turn === this.#turn) {
                const bitmap = await camera.frame();
                const settings = this.#page.settings();
                settings.canvas = Math.min(settings.canvas, LIVE_CANVAS);
                const found = await this.#page.client.frame(bitmap, settings, this.#page.compared(this)).catch((error: Error) => {
                    // The worker was replaced; the next frame waits for the new one.
                    if (!(error instanceof Interrupted)) throw error;
                });
                if (found && turn === this.#turn) this.#show(found.analysis);
            }
        } catch (error) {
            if (turn !== this.#turn) return;
            this.clear();
            this.#fail(error);
        }
    }

    /** Turns the camera's present frame into a picture. */
    async keepFrame() {
        const frame = await this.#camera?.still();
        if (frame) await this.open(frame);
    }

    clear() {
        this.#turn++;
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
        // The button that was pressed is gone; who uses the keyboard goes on where it was.
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
        if (!part) throw new Error(`The page lacks ${selector}.`);
        return part;
    }
}

/** With a capital and a full stop. */
export function sentence(text: string): string {
    const start = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!?]$/.test(start) ? start : `${start}.`;
}
