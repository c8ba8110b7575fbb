// The lease: its clock, its extension, and the warning before it ends.

// Before the end: the lesser of these seconds and this part of the lease.
const WARNING_SECONDS = 120;
const WARNING_SHARE = 0.25;

export class Lease {
  // `extend` asks the server and returns the seconds that are left then.
  constructor({ seconds, secondsLeft, clock, warning, extend }) {
    this.seconds = seconds;
    this.clock = clock;
    this.warning = warning;
    this.ask = extend;
    this.asking = false;
    this.holdFor(secondsLeft);
    setInterval(() => this.show(), 1000);
  }

  // By a clock that is this page's own: the server's and the browser's need not agree.
  get left() {
    return Math.max(0, this.ends - performance.now() / 1000);
  }

  holdFor(seconds) {
    this.ends = performance.now() / 1000 + seconds;
    this.show();
  }

  show() {
    const left = Math.round(this.left);
    this.clock.textContent = left ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "no longer";
    const isNear = left <= Math.min(WARNING_SECONDS, this.seconds * WARNING_SHARE);
    this.clock.parentElement.classList.toggle("near", isNear);
    // Said once when it is near and once when it is over, not every second.
    const says = !left
      ? "The lease has ended, so this item may go to somebody else. Copy what you need, then claim the next."
      : isNear ? "The lease ends soon. Extend it with X, or type on." : "";
    if (this.warning.textContent !== says) {
      this.warning.textContent = says;
      this.warning.hidden = !says;
    }
  }

  async extend() {
    if (this.asking) {
      return;
    }
    this.asking = true;
    const seconds = await this.ask();
    this.asking = false;
    if (seconds !== undefined) {
      this.holdFor(seconds);
    }
  }

  // Somebody is at work on the item: hold it before half of the lease is over.
  async work() {
    if (this.left && this.left < this.seconds / 2) {
      await this.extend();
    }
  }
}
