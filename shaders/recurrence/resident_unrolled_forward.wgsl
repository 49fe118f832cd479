// needs: shared/step_forward shared/restore
// A whole chunk of the sequence in one dispatch, written out for one shape of workgroup: it makes all units of its rows, keeps
// weights in registers as far as they fit, and reads the others again at every step. The text is src/schedule/unrolled's.
// The step index counts chunks of sizes.chunk steps, from step sizes.first to sizes.steps.
