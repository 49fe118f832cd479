// needs: shared/step_forward
// A phase of one step, written out for one shape of workgroup, which makes some units of some rows: all that it reads, weights
// first, is asked for before anything is used. The text is src/schedule/unrolled's.
