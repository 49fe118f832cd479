// The worker's side of measuring: the cases of a suite, one after another, until it is stopped.

export class BenchJob {
  #device;
  #tell;
  #stopped = false;
  #bench = null;

  constructor(device, tell) {
    this.#device = device;
    this.#tell = tell;
  }

  stop() {
    this.#stopped = true;
    this.#bench?.stop();
  }

  // Resolves with the report of what was measured, also where the device was lost on the way.
  async run({ suite, strategy, most }) {
    this.#stopped = false;
    const device = this.#device();
    if (!device) throw new Error("there is no device");
    const bench = device.bench(suite, { strategy });
    this.#bench = bench;
    const cases = bench.cases.slice(0, most ?? undefined);
    this.#tell("cases", cases);
    this.#tell("peaks", await bench.peaks());
    let done = 0;
    while (done < cases.length && !this.#stopped && !device.isLost) {
      this.#tell("case", { index: done, name: cases[done] });
      this.#tell("row", { name: cases[done], row: await bench.run(done) });
      done += 1;
    }
    return { report: await bench.report(), done, of: cases.length, lost: device.isLost };
  }
}
