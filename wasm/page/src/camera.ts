// The device's camera, as a stream of frames.

export class Camera {
    /** Front cameras are shown as in a mirror: moving left goes left. */
    readonly mirrored: boolean;
    #stream: MediaStream;
    #video: HTMLVideoElement;

    private constructor(stream: MediaStream, video: HTMLVideoElement) {
        this.#stream = stream;
        this.#video = video;
        const facing = stream.getVideoTracks()[0]?.getSettings().facingMode;
        this.mirrored = facing !== "environment";
    }

    /** Asks for the camera and plays it in `video`. Throws a sentence when there is none or it is not allowed. */
    static async open(video: HTMLVideoElement): Promise<Camera> {
        if (!navigator.mediaDevices?.getUserMedia) {
            throw new Error("Browsers give the camera only to pages opened over HTTPS or from this machine (localhost).");
        }
        const wish = { video: { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "user" }, audio: false };
        const stream = await navigator.mediaDevices.getUserMedia(wish).catch((error: DOMException) => {
            throw new Error(reasons[error.name] ?? `The camera could not be opened: ${error.message}`);
        });
        video.srcObject = stream;
        await video.play();
        return new Camera(stream, video);
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
        for (const track of this.#stream.getTracks()) track.stop();
        this.#video.srcObject = null;
    }
}

const reasons: Record<string, string> = {
    NotAllowedError: "The camera is not allowed for this page. Allow it in the browser's settings of this page.",
    NotFoundError: "No camera was found.",
    NotReadableError: "The camera is in use by another program.",
};
