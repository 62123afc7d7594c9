/* Weights in chains: packing proves what it promises, and every kernel gives the oracle's sums. */
#include "gemm/gemm_chains.h"
#include "gemm_case.h"

static const struct pq_gemm_chains_kernel *chains_kernel_of(int isa) {
    return pq_kernel_present(PQ_KERNEL_OP_gemm_chains, (pq_isa)isa);
}

/* Weights with magnitudes of at most `most`; with split > 0 one in `split` is -128. */
static void draw_weights(problem *p, uint64_t *seed, int most, int split) {
    for (size_t i = 0; i < p->n * p->k; i++) {
        p->w[i] = (int8_t)check_random_in(seed, -most, most);
        if (split > 0 && check_random(seed) % (uint64_t)split == 0) {
            p->w[i] = INT8_MIN;
        }
    }
}

static void check_problem(uint64_t *seed, const problem *p) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (int isa = 0; isa < PQ_ISA_COUNT; isa++) {
        const struct pq_gemm_chains_kernel *kernel = chains_kernel_of(isa);
        pq_gemm_weights *weights = NULL;
        if (kernel != NULL &&
            CHECK_OK(pq_gemm_chains_pack_for(&exec, kernel, &p->args, &weights))) {
            check_weights(seed, p, weights);
            pq_gemm_weights_free(weights);
        }
    }
}

enum { FULL = 127 };

static void test_shapes(void) {
    static const size_t shapes[][3] = {{1, 1, 0},     {1, 1, 1},     {1, 17, 3},    {2, 16, 4},
                                       {3, 15, 5},    {4, 33, 31},   {5, 48, 32},   {6, 31, 33},
                                       {7, 1, 63},    {13, 64, 64},  {6, 16, 65},   {97, 19, 127},
                                       {1, 40, 2500}, {5, 18, 4097}, {23, 70, 1100}};
    static const int most[] = {1, 10, 40, 80, FULL};
    static const pq_dtype types[] = {PQ_S8, PQ_S16, PQ_S32};
    static const pq_cache_sizes small = {4096, (size_t)1 << 16, (size_t)1 << 16};
    uint64_t seed = 21;
    for (int cut = 0; cut < 2; cut++) {
        pq_cpu_caches_set(cut == 0 ? NULL : &small); /* k in one cut or two, and in many */
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            for (size_t w = 0; w < sizeof most / sizeof most[0]; w++) {
                for (int split = 0; split < 2; split++) {
                    problem p = make_problem(&seed, shapes[i][0], shapes[i][1], shapes[i][2],
                                             types[check_random(&seed) % 3],
                                             (int)(check_random(&seed) % SPREADS));
                    draw_weights(&p, &seed, most[w], split * 20);
                    check_problem(&seed, &p);
                    free_problem(&p);
                }
            }
        }
    }
    pq_cpu_caches_set(NULL);
}

/* Lanes of a load of 256, load(w) = w + 1 or -w: with x = -128 a lane of w >= 0 holds -32768. Three
 * groups make 86 + 86 + 84, two make 128 + 128, one of -128 and -128 is full by itself. */
static void test_full_lanes(void) {
    enum { N = 16, K = 12 };
    static const int8_t weights[4][3][2] = {
        {{42, 42}, {42, 42}, {41, 41}},
        {{63, 63}, {63, 63}, {0, 0}},
        {{-43, -43}, {-43, -43}, {-42, -42}},
        {{-128, -128}, {-128, -128}, {-128, -128}},
    };
    static const uint32_t want[4][3] = {{1, 0, 0}, {0, 1, 1}, {1, 0, 0}, {0, 0, 3}};
    uint64_t seed = 22;
    for (int form = 0; form < 4; form++) {
        for (int spread = 0; spread < SPREADS; spread++) {
            problem p = make_problem(&seed, 6, N, K, PQ_S32, spread);
            for (size_t i = 0; i < N * K; i++) {
                p.w[i] = weights[form][i % K / 4][i % 2];
            }
            const pq_exec exec = pq_exec_serial(message, sizeof message);
            pq_gemm_weights *packed = NULL;
            CHECK_OK(pq_gemm_chains_pack_for(&exec, &pq_gemm_chains_ref, &p.args, &packed));
            const pq_gemm_chain_cut *cut = pq_gemm_chains_cut(packed, 0, 0);
            CHECK_EQ(cut->threes, want[form][0]);
            CHECK_EQ(cut->twos, want[form][1]);
            CHECK_EQ(cut->ones, want[form][2]);
            pq_gemm_weights_free(packed);
            check_problem(&seed, &p);
            free_problem(&p);
        }
    }
}

/* What is packed is w, each weight once, and no lane holds more than it may. */
static void check_packed(const problem *p, const pq_gemm_weights *weights) {
    const pq_gemm_chains *chains = weights->extra;
    const size_t step = weights->blocking.k;
    int16_t *seen = calloc(p->n * p->k + 1, sizeof *seen);
    size_t multiplies = 0;
    for (size_t panel = 0; panel * 16 < p->n; panel++) {
        for (size_t c = 0; c < chains->cut_count; c++) {
            const pq_gemm_chain_cut *cut = pq_gemm_chains_cut(weights, panel, c);
            const uint16_t *order = pq_gemm_chains_order(weights, panel, cut);
            const int8_t *w = pq_gemm_chains_groups(weights, panel, cut);
            const uint32_t counts[] = {0, cut->ones, cut->twos, cut->threes};
            for (size_t length = 3; length > 0; length--) {
                for (uint32_t i = 0; i < counts[length]; i++) {
                    int lanes[32] = {0};
                    for (size_t l = 0; l < length; l++, order++, w += 64) {
                        for (size_t b = 0; b < 64; b++) {
                            const size_t j = panel * 16 + b / 4, k = c * step + 4u * *order + b % 4;
                            lanes[b / 2] += w[b] < 0 ? -w[b] : w[b] + 1;
                            if (j < p->n && k < p->k) {
                                seen[j * p->k + k] = (int16_t)(seen[j * p->k + k] + w[b]);
                            } else {
                                CHECK_EQ(w[b], 0);
                            }
                        }
                    }
                    for (int lane = 0; lane < 32; lane++) {
                        CHECK(lanes[lane] <= 256);
                    }
                    multiplies += length + 1;
                }
            }
        }
    }
    CHECK_EQ(multiplies, chains->multiplies);
    bool same = true;
    for (size_t i = 0; i < p->n * p->k; i++) {
        same = same && seen[i] == p->w[i];
    }
    CHECK(same);
    free(seen);
}

static void test_packing(void) {
    static const size_t shapes[][2] = {{16, 64}, {33, 250}, {16, 3000}, {1, 7}};
    static const int most[] = {5, 20, 60, FULL};
    uint64_t seed = 23;
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (size_t w = 0; w < sizeof most / sizeof most[0]; w++) {
            problem p = make_problem(&seed, 1, shapes[i][0], shapes[i][1], PQ_S32, RANDOM);
            draw_weights(&p, &seed, most[w], w % 2 == 0 ? 0 : 30);
            pq_gemm_weights *weights = NULL;
            CHECK_OK(pq_gemm_chains_pack_for(&exec, &pq_gemm_chains_ref, &p.args, &weights));
            check_packed(&p, weights);
            pq_gemm_weights_free(weights);
            free_problem(&p);
        }
    }
}

/* Chains are taken where they save, and plain panels elsewhere. */
static void test_choice(void) {
    const struct pq_gemm_s8s8_kernel *kernel = kernel_of(PQ_ISA_AVX2);
    if (kernel == NULL) {
        return;
    }
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    uint64_t seed = 24;
    for (int heavy = 0; heavy < 2; heavy++) {
        problem p = make_problem(&seed, 5, 40, 200, PQ_S32, RANDOM);
        draw_weights(&p, &seed, 20, 0);
        for (size_t i = 0; heavy == 1 && i < p.n * p.k; i++) {
            p.w[i] = p.w[i] < 0 ? -100 : 100;
        }
        pq_gemm_weights *weights = NULL;
        CHECK_OK(pq_gemm_s8s8_pack_for(&exec, kernel, &p.args, &weights));
        CHECK(weights->kernel == (heavy == 1 ? kernel : &kernel->chains->gemm));
        pq_gemm_weights_free(weights);
        free_problem(&p);
    }
}

/* Asked for, they are taken where they save nothing and by whatever kernel the limit leaves. */
static void test_asked_for(void) {
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    uint64_t seed = 25;
    problem p = make_problem(&seed, 3, 17, 30, PQ_S32, RANDOM);
    draw_weights(&p, &seed, FULL, 2);
    for (int limited = 0; limited < 2; limited++) {
        CHECK_OK(pq_isa_limit(limited == 1 ? "ref" : NULL));
        const void *want = pq_kernel_choose(PQ_KERNEL_OP_gemm_chains);
        pq_gemm_weights *weights = NULL;
        CHECK_OK(pq_gemm_s8s8_pack_chains(&exec, &p.args, &weights));
        CHECK(weights->kernel == want && (limited == 0 || want == &pq_gemm_chains_ref));
        CHECK_TEXT(pq_gemm_weights_kernel(weights).op, "gemm_chains");
        CHECK(limited == 0 || pq_gemm_weights_kernel(weights).isa == PQ_ISA_REF);
        pq_gemm_weights_free(weights);
    }
    CHECK_OK(pq_isa_limit(NULL));
    free_problem(&p);
}

static void test_no_memory(void) {
    const int8_t w[] = {1, 2, 3, 4};
    const pq_gemm_pack_args args = {.n = 2, .k = 2, .w = w, .y_type = PQ_S32};
    const pq_exec exec = pq_exec_serial(message, sizeof message);
    const long live = pq_alloc_live();
    for (long calls = 0; calls < 2; calls++) {
        pq_gemm_weights *weights = NULL;
        pq_alloc_fail_after(calls);
        CHECK_STATUS(pq_gemm_chains_pack_for(&exec, &pq_gemm_chains_ref, &args, &weights),
                     PQ_ERR_NOMEM);
        CHECK(weights == NULL);
        CHECK_TEXT(message, "no memory to pack weights of 2 x 2");
    }
    pq_alloc_fail_after(-1);
    CHECK_EQ(pq_alloc_live(), live);
}

int main(void) {
    test_full_lanes();
    test_packing();
    test_choice();
    test_asked_for();
    test_shapes();
    test_no_memory();
    return check_finish("test_gemm_chains");
}
