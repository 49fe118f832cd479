// The adapter of this visitor, as the parts of the page see it: there, missing or lost, and who uses it. Two at a time would spoil
// what is measured.

const $ = (id) => document.getElementById(id);

export class Device extends EventTarget {
  // "waiting", "open", "missing", "lost" or "dead"
  state = "waiting";
  facts = null;
  why = "";
  user = null;

  constructor(client) {
    super();
    this.client = client;
    client.on("lost", () => this.#become("lost", "The device was lost: the driver or the browser took it away."));
  }

  async open() {
    this.#become("waiting", "Looking for a GPU …");
    try {
      this.facts = await this.client.call("open");
      this.#become("open", "");
    } catch (error) {
      if (this.state !== "dead") this.#become("missing", `WebGPU is missing: ${error.message}.`);
    }
  }

  die(why) {
    this.#become("dead", why);
  }

  // Runs `work` as the only user.
  async use(user, work) {
    this.user = user;
    this.#changed();
    try {
      return await work();
    } finally {
      this.user = null;
      this.#changed();
    }
  }

  #become(state, why) {
    Object.assign(this, { state, why });
    $("no-webgpu").hidden = state !== "missing";
    if (state === "missing") $("no-webgpu-reason").textContent = why;
    if (state === "lost") this.#offerToReopen();
    this.#changed();
  }

  #offerToReopen() {
    const button = element("button", { type: "button", id: "device-reopen", textContent: "Open it again" });
    const notice = element("p", {}, this.why, button);
    button.addEventListener("click", () => {
      notice.remove();
      this.open();
    });
    $("trouble").append(notice);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
