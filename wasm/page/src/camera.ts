// Frames of the device's camera.

export class Camera {
    /** The video is displayed mirrored: true except for rear cameras. */
    readonly mirrored: boolean;
    /** Constraints that select the device's next camera; `undefined` if the device has only one. */
    readonly other: MediaTrackConstraints | undefined;
    #stream: MediaStream;
    #video: HTMLVideoElement;

    private constructor(stream: MediaStream, video: HTMLVideoElement, other: MediaTrackConstraints | undefined) {
        this.#stream = stream;
        this.#video = video;
        this.mirrored = facing(stream) !== "environment";
        this.other = other;
    }

    /**
     * Opens a camera, by default the front camera, and plays it in `video`. Throws an `Error` with a message for the
     * user if there is no camera or the user does not allow it.
     */
    static async open(video: HTMLVideoElement, which: MediaTrackConstraints = { facingMode: "user" }): Promise<Camera> {
        if (!navigator.mediaDevices?.getUserMedia) {
            throw new Error("The camera needs a page that was opened over HTTPS or from this machine (localhost).");
        }
        const wish = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, ...which }, audio: false };
        const stream = await navigator.mediaDevices.getUserMedia(wish).catch((error: DOMException) => {
            throw new Error(reasons[error.name] ?? `The camera could not be opened: ${error.message}`);
        });
        try {
            video.srcObject = stream;
            await video.play();
            return new Camera(stream, video, await nextCamera(stream));
        } catch (error) {
            release(stream, video);
            throw new Error(`The camera's video could not be played: ${error instanceof Error ? error.message : error}`);
        }
    }

    /** Waits for the next frame. Throws if the camera was disconnected. */
    async frame(): Promise<ImageBitmap> {
        const track = this.#stream.getVideoTracks()[0];
        if (!track || track.readyState === "ended") throw new Error("The camera was disconnected.");
        await new Promise((resolve) => requestAnimationFrame(resolve));
        return createImageBitmap(this.#video);
    }

    /** The current frame as a PNG file. */
    async still(): Promise<Blob | null> {
        const canvas = document.createElement("canvas");
        canvas.width = this.#video.videoWidth;
        canvas.height = this.#video.videoHeight;
        canvas.getContext("2d")?.drawImage(this.#video, 0, 0);
        return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    }

    close() {
        release(this.#stream, this.#video);
    }
}

/** Turns the camera off. */
function release(stream: MediaStream, video: HTMLVideoElement) {
    for (const track of stream.getTracks()) track.stop();
    if (video.srcObject === stream) video.srcObject = null;
}

function facing(stream: MediaStream): string | undefined {
    return stream.getVideoTracks()[0]?.getSettings().facingMode;
}

/**
 * Constraints that select another camera than that of `stream`. On phones the camera of the other direction, because
 * the rear camera often consists of several devices; elsewhere the next device.
 */
async function nextCamera(stream: MediaStream): Promise<MediaTrackConstraints | undefined> {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    if (devices.length < 2) return undefined;
    const direction = facing(stream);
    if (direction) return { facingMode: direction === "environment" ? "user" : "environment" };
    const current = stream.getVideoTracks()[0]?.getSettings().deviceId;
    const next = devices[(devices.findIndex(({ deviceId }) => deviceId === current) + 1) % devices.length];
    return next && { deviceId: { exact: next.deviceId } };
}

const reasons: Record<string, string> = {
    NotAllowedError: "This page may not use the camera. Allow it in the browser's settings for this page.",
    NotFoundError: "No camera was found.",
    NotReadableError: "The camera is in use by another program.",
    OverconstrainedError: "This camera is no longer connected.",
};
