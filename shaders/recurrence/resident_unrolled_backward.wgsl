// needs: shared/step_backward shared/restore
// A whole chunk of BPTT in one dispatch, written out for one shape of workgroup: see resident_unrolled_forward.
// The step index counts chunks of sizes.chunk steps, of sizes.steps in all.
