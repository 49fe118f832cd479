/** By its name in tidegate. `gru` is PyTorch's, `gru_reset_before` the paper's; the three `rnn_` are Elman's network. */
export type Cell = "lstm" | "gru" | "gru_reset_before" | "rnn_tanh" | "rnn_relu" | "rnn_linear" | "binary_gate";

export interface DeviceOptions {
  powerPreference?: "high-performance" | "low-power";
}

/** With PyTorch's names and meanings, and its defaults. */
export interface NetworkOptions {
  /** I: features of one input step. */
  inputSize: number;
  /** H: units of each layer and direction. */
  hiddenSize: number;
  /** L, 1 by default. */
  numLayers?: number;
  direction?: "forward" | "reverse" | "bidirectional";
  bias?: boolean;
  /** Whether input and output are [B, T, ...] instead of [T, B, ...]. */
  batchFirst?: boolean;
  /** Between layers, in training only. */
  dropout?: number;
  /** How parameters, input and output are stored on the GPU; arithmetic is f32. */
  dtype?: "f32" | "f16";
  strategy?: "auto" | "stepwise" | "batched" | "resident";
  /** What `Network.tune` resolved with on this device: strategy `auto` goes by it. */
  tuning?: string;
  /** Of the initial weights, 0 by default. */
  seed?: number;
}

/** Of `Device.load`. The cell follows from the file unless it is named; a prefix picks one network out of a larger file. */
export interface LoadOptions extends Pick<NetworkOptions, "batchFirst" | "dtype" | "strategy" | "tuning"> {
  cell?: Cell;
  prefix?: string;
}

export interface Shape {
  /** T. */
  seqLen: number;
  /** B. */
  batchSize: number;
}

export interface SequenceOptions extends Shape {
  /** [S, L·D, B, H]; zeros by default. An LSTM has two states, h and c: S is 2. */
  initialState?: Float32Array;
  /** [B], each 1 to T. */
  lengths?: Uint32Array;
  /** [T, B], time-major: a word other than 0 makes the state zero before that step. */
  reset?: Uint32Array;
}

export interface Output {
  /** [T, B, D·H]. */
  output: Float32Array;
  /** [S, L·D, B, H]. */
  finalState: Float32Array;
}

export interface Gradients extends Output {
  /** [T, B, I]. */
  dInput: Float32Array;
  /** [S, L·D, B, H]. */
  dInitialState: Float32Array;
  dParams: Record<string, Tensor>;
}

export interface Tensor {
  shape: number[];
  /** Row-major. */
  data: Float32Array;
}

export interface TrainerOptions extends NetworkOptions, Shape {
  /** C: classes, or features of a target. */
  outputs: number;
  /** V: an embedding of so many tokens, of inputSize features, is put in front; else the network reads features. */
  vocabulary?: number;
  objective?: "cross_entropy" | "mean_squared_error";
  /** Whether every step's output makes a prediction, or the last one's alone. */
  readout?: "every_step" | "final";
  /** As torch.optim's, with its defaults. */
  optimizer?: "adam" | "adamw" | "sgd";
  /** Of `sgd`: 0, the default, to below 1. */
  momentum?: number;
  weightDecay?: number;
  /** Whether each chunk starts from the state that the one before left: truncated BPTT. */
  carryState?: boolean;
  /** Whether rows have lengths of their own. */
  ragged?: boolean;
  /** Bound on the norm of all gradients. */
  clipNorm?: number;
}

/** Tokens [T, B] or features [T, B, I] in; labels or values out, one for each prediction. */
export interface Batch {
  tokens?: Uint32Array;
  features?: Float32Array;
  labels?: Uint32Array;
  values?: Float32Array;
  lengths?: Uint32Array;
  /** One for each prediction: 0 where it does not count. */
  mask?: Uint32Array;
  reset?: Uint32Array;
}

export interface BenchOptions extends Pick<NetworkOptions, "strategy" | "dtype"> {}

/** What a device does at best. */
export interface Peaks {
  peak_gflops: number;
  peak_gflops_f16: number | null;
  peak_gbytes: number;
  peak_gbytes_read: number | null;
  peak_gbytes_write: number | null;
  load_latency_ns: number | null;
  submit_us: number;
  dispatch_us: number;
}

/** One case on one device, as `tidegate bench` writes it; what was not measured is null. */
export interface Row {
  cell: Cell;
  mode: "infer" | "train";
  I: number;
  H: number;
  L: number;
  T: number;
  B: number;
  strategy: string;
  dispatches: number | null;
  ms_median: number | null;
  gpu_ms_median: number | null;
  runs: number;
  gflops: number | null;
  bound_by: "launches" | "round trips" | "memory" | "arithmetic" | null;
  /** Why the times are to be doubted. */
  marks: ("spread" | "step" | "two-levels" | "gpu-over-wall" | "over-peak" | "busy")[];
  verified: boolean;
  max_rel_err: number | null;
  stream: boolean;
  us_per_step_p50: number | null;
  us_per_step_p99: number | null;
  /** Of a case that failed. */
  error?: string;
}

export interface GateMaps {
  formula: string;
  /** As of `forward`. */
  output: Float32Array;
  /** One for each layer and direction. */
  groups: { name: string; cell: Cell; maps: GateMap[] }[];
}

export interface GateMap {
  name: string;
  about: string;
  /** Whether it opens and shuts, from 0 to 1. */
  gate: boolean;
  low: number;
  high: number;
  mean: number;
  /** [B, T, H]: 0 is `low`, 255 is `high`; 0 past a row's length. */
  bytes: Uint8Array;
  /** Part of all values under 0.1, and what that does. */
  shut?: { share: number; meaning: string };
  /** Part of all values over 0.9. */
  open?: { share: number; meaning: string };
}
