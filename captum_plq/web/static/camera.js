// The camera: where there is one, and a photo from it.

const REFUSED = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser, or choose a photo.",
  NotFoundError: "No camera was found. Connect one, or choose a photo.",
  NotReadableError: "The camera does not answer. Close other programs that use it, or choose a photo.",
};

export function whyNoCamera() {
  if (!window.isSecureContext) {
    return "The camera works only at a secure address: https, or 127.0.0.1 on the server’s own machine.";
  }
  return navigator.mediaDevices?.getUserMedia ? "" : "This browser gives pages no camera.";
}

export class Camera {
  constructor(video) {
    this.video = video;
    this.stream = null;
    this.turn = 0; // counts openings and closings: a camera that comes too late is let go
  }

  /** Resolves to whether it shows a picture: not if it was closed meanwhile. */
  async open() {
    this.close();
    const turn = this.turn;
    let stream;
    try {
      const wanted = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 960 } };
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      if (turn !== this.turn) return false;
      throw new Error(REFUSED[error.name] || "The camera cannot be used. Choose a photo.");
    }
    if (turn !== this.turn) {
      stop(stream);
      return false;
    }
    this.stream = this.video.srcObject = stream;
    await this.video.play().catch(() => {}); // rejects if it is closed before the first picture
    return turn === this.turn;
  }

  async take() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) throw new Error("The camera shows no picture yet. Wait a moment and try again.");
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const photo = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
    if (!photo) throw new Error("The picture could not be taken. Try again, or choose a photo.");
    return photo;
  }

  close() {
    this.turn += 1;
    stop(this.stream);
    this.stream = this.video.srcObject = null;
  }
}

function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}
