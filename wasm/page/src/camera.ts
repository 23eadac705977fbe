// The device's camera, as a stream of frames.

export class Camera {
    /** Front cameras are shown as in a mirror: moving left goes left. */
    readonly mirrored: boolean;
    /** What to ask for to get the device's other camera; `undefined` when it has one. */
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
     * Asks for the camera, the front one unless `which` says otherwise, and plays it in `video`. Throws a sentence when there is none
     * or it is not allowed.
     */
    static async open(video: HTMLVideoElement, which: MediaTrackConstraints = { facingMode: "user" }): Promise<Camera> {
        if (!navigator.mediaDevices?.getUserMedia) {
            throw new Error("Browsers give the camera only to pages opened over HTTPS or from this machine (localhost).");
        }
        const wish = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, ...which }, audio: false };
        const stream = await navigator.mediaDevices.getUserMedia(wish).catch((error: DOMException) => {
            throw new Error(reasons[error.name] ?? `The camera could not be opened: ${error.message}`);
        });
        try {
            video.srcObject = stream;
            await video.play();
            return new Camera(stream, video, await otherThan(stream));
        } catch (error) {
            release(stream, video);
            throw new Error(`The camera's picture could not be shown: ${error instanceof Error ? error.message : error}`);
        }
    }

    /** The next frame the camera delivers. */
    async frame(): Promise<ImageBitmap> {
        const track = this.#stream.getVideoTracks()[0];
        if (!track || track.readyState === "ended") throw new Error("The camera was disconnected.");
        await new Promise((resolve) => requestAnimationFrame(resolve));
        return createImageBitmap(this.#video);
    }

    /** The present frame as a picture file. */
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

/** Phones have a front and a rear camera, the latter often in several parts; other devices have cameras without a direction. */
async function otherThan(stream: MediaStream): Promise<MediaTrackConstraints | undefined> {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    if (devices.length < 2) return undefined;
    const direction = facing(stream);
    if (direction) return { facingMode: direction === "environment" ? "user" : "environment" };
    const present = stream.getVideoTracks()[0]?.getSettings().deviceId;
    const next = devices[(devices.findIndex(({ deviceId }) => deviceId === present) + 1) % devices.length];
    return next && { deviceId: { exact: next.deviceId } };
}

const reasons: Record<string, string> = {
    NotAllowedError: "The camera is not allowed for this page. Allow it in the browser's settings of this page.",
    NotFoundError: "No camera was found.",
    NotReadableError: "The camera is in use by another program.",
    OverconstrainedError: "That camera is not there any more.",
};
