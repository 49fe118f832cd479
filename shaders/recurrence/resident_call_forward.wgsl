// needs: shared/call shared/advance
// A whole sequence in one dispatch, as resident_unrolled_forward but for what it starts from, which it takes from the call itself:
// no dispatch before it brings that into the workspace.
