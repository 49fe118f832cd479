// needs: shared/step_backward
// A phase of one step of BPTT, written out for one shape of workgroup: see stepwise_unrolled_forward.
