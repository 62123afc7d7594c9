/* The register tile of the AVX-512 variants, for any multiply-add of one 32-bit unit: the includer
 * defines PQ_STEP(sums, a, b) and PQ_TILE_NAME, the pq_multiply_fn to define, and may do so again.
 */

#define PQ_PASTE_AGAIN(a, b) a##b
#define PQ_PASTE(a, b) PQ_PASTE_AGAIN(a, b)
#define PQ_TILE_BODY PQ_PASTE(PQ_TILE_NAME, _body)

/* Sums go to memory in any case: with more behind the loop, compilers spill inside it. */
PQ_INLINE void PQ_TILE_BODY(const int rows, const int vectors, const pq_product *product) {
    __m512i sum[PQ_TILE_ROWS][PQ_TILE_VECTORS];
    const char *a = product->a, *b = product->b;
    const size_t a_stride = product->a_stride, b_stride = product->b_stride;
    PQ_UNROLL
    for (int v = 0; v < vectors; v++) {
        const __m512i first = product->bias == NULL
                                  ? _mm512_setzero_si512()
                                  : _mm512_load_si512(product->bias + v * PQ_LANES);
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            sum[i][v] = first;
        }
    }
    for (size_t step = 0; step < product->steps; step++) {
        __m512i column[PQ_TILE_VECTORS];
        PQ_UNROLL
        for (int v = 0; v < vectors; v++) {
            column[v] = _mm512_load_si512(b + (size_t)v * b_stride);
        }
        PQ_UNROLL
        for (int i = 0; i < rows; i++) {
            int32_t bytes;
            memcpy(&bytes, a + (size_t)i * a_stride, sizeof bytes);
            const __m512i unit = _mm512_set1_epi32(bytes);
            PQ_UNROLL
            for (int v = 0; v < vectors; v++) {
                sum[i][v] = PQ_STEP(sum[i][v], unit, column[v]);
            }
        }
        a += sizeof(int32_t);
        b += PQ_VECTOR;
    }
    PQ_UNROLL
    for (int i = 0; i < rows; i++) {
        PQ_UNROLL
        for (int v = 0; v < vectors; v++) {
            _mm512_store_si512(product->sums + (size_t)i * product->sums_stride + v * PQ_LANES,
                               sum[i][v]);
        }
    }
}

static void PQ_TILE_NAME(size_t rows, size_t vectors, const pq_product *product) {
#define PQ_CASE(r, v) \
    case (r)*8 + (v): \
        PQ_TILE_BODY(r, v, product); \
        break;
#define PQ_CASES(r) PQ_CASE(r, 1) PQ_CASE(r, 2) PQ_CASE(r, 3) PQ_CASE(r, 4)
    switch (rows * 8 + vectors) {
        PQ_CASES(1)
        PQ_CASES(2)
        PQ_CASES(3)
        PQ_CASES(4)
        PQ_CASES(5)
        PQ_CASES(6)
    default: assert(false);
    }
#undef PQ_CASE
#undef PQ_CASES
}

#undef PQ_PASTE_AGAIN
#undef PQ_PASTE
#undef PQ_TILE_BODY
#undef PQ_TILE_NAME
#undef PQ_STEP
