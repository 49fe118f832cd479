// What both hosts run tests with; nothing here is Node's or a browser's alone.

const LONGEST_MS = 120_000;

/// Runs `[name, test]` one after another, each under a limit; says how long each took, and gives how many failed.
export async function run(tests, say) {
  let failed = 0;
  for (const [name, test] of tests) {
    const start = performance.now();
    const spent = () => `${((performance.now() - start) / 1000).toFixed(2).padStart(6)} s`;
    try {
      const note = await within(LONGEST_MS, test());
      say(`${spent()}  ${name}${note ? `: ${note}` : ""}`);
    } catch (error) {
      failed += 1;
      say(`${spent()}  FAILED ${name}: ${error?.stack || error}`);
    }
  }
  return failed;
}

/// Rejects where a promise does not settle in time.
export function within(limit, promise, what = "it") {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not settle within ${limit / 1000} s`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function assert(holds, message) {
  if (!holds) throw new Error(message);
}

export function equal(what, actual, expected) {
  assert(Object.is(actual, expected), `${what}: expected ${expected}, got ${actual}`);
}

/// Bit for bit.
export function same(what, actual, expected) {
  equal(`${what}: values`, actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) equal(`${what}[${i}]`, actual[i], expected[i]);
}

/// To `tolerance` of each value, or of 1. A NaN is never close.
export function close(what, actual, expected, tolerance) {
  equal(`${what}: values`, actual.length, expected.length);
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]) / Math.max(1, Math.abs(expected[i]));
    assert(error <= tolerance, `${what}[${i}]: expected ${expected[i]}, got ${actual[i]}`);
    largest = Math.max(largest, error);
  }
  return largest;
}

/// Of a call that must throw, or reject, with this message; it may not hang.
export async function fails(what, call, message) {
  let value;
  try {
    value = await within(20_000, Promise.resolve(call()), what);
  } catch (error) {
    assert(error instanceof Error, `${what}: threw what is no Error: ${error}`);
    const fits = typeof message === "string" ? error.message === message : message.test(error.message);
    assert(fits, `${what}: expected ${message}, got: ${error.message}`);
    return;
  }
  throw new Error(`${what}: expected ${message}, but it gave ${value}`);
}

/// Numbers around 0 that are the same everywhere.
export function numbers(length, seed = 1) {
  const next = random(seed);
  return Float32Array.from({ length }, () => 2 * next() - 1);
}

/// Uniform in 0..1 (mulberry32).
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}
