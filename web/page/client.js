// A worker and the calls that wait for it. None waits for ever: when the worker dies, all are rejected and `onDead` is told once.

export class Client {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #listeners = new Map();
  #next = 0;
  #dead = null;

  constructor(onDead) {
    const die = (reason) => {
      if (this.#dead) return;
      this.#dead = reason;
      this.#worker.terminate();
      for (const { reject } of this.#waiting.values()) reject(new Error(reason));
      this.#waiting.clear();
      onDead(reason);
    };
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      die(event.message || "worker.js or tidegate.js could not be loaded");
    });
    this.#worker.addEventListener("messageerror", () => die("a message could not be read"));
    this.#worker.addEventListener("message", ({ data }) => {
      if ("fatal" in data) return die(data.fatal);
      if ("event" in data) return this.#listeners.get(data.event)?.(data.data);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.result);
    });
  }

  on(event, listener) {
    this.#listeners.set(event, listener);
  }

  call(name, ...args) {
    if (this.#dead) return Promise.reject(new Error(this.#dead));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, call: name, args });
    });
  }
}
