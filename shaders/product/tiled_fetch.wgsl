// How matmul fetches operand $x: as here A, or B with n in place of m. quad_$x gives four numbers along the contiguous index, of
// which `rest` + 1 are there: it loads $X_WIDTH of them at a time.

// For each of the four k from first_k on, four numbers along m from first_m on: 0 from k_end on. Beyond m_end stands anything,
// which ends in rows of C that nobody writes.
fn fetch_$x(base: u32, stride: u32, first_m: u32, m_end: u32, first_k: u32, k_end: u32) -> mat4x4f {
    var found = mat4x4f();
    if $X_ALONG_K == 1u {
        let k = min(first_k, k_end - $X_WIDTH);
        let rest = k_end - 1u - k;
        let at = base + k + min(first_m + FOUR, vec4u(m_end - 1u)) * stride;
        found = transpose(mat4x4f(quad_$x(at.x, rest), quad_$x(at.y, rest), quad_$x(at.z, rest), quad_$x(at.w, rest)));
    } else {
        let m = min(first_m, m_end - $X_WIDTH);
        let rest = m_end - 1u - m;
        let at = base + m + min(first_k + FOUR, vec4u(k_end - 1u)) * stride;
        found = mat4x4f(quad_$x(at.x, rest), quad_$x(at.y, rest), quad_$x(at.z, rest), quad_$x(at.w, rest));
    }
    let is = first_k + FOUR < vec4u(k_end);
    return mat4x4f(
        select(vec4f(), found[0], is.x),
        select(vec4f(), found[1], is.y),
        select(vec4f(), found[2], is.z),
        select(vec4f(), found[3], is.w),
    );
}
