#include "torch/shim.h"

namespace pyquant {
namespace {

const char op[] = "attention";

/* [.., heads, len, d] as [batch, heads, len, d]: a view where the strides allow it, d contiguous.
 */
Tensor as_4d(const char *name, const Tensor &x) {
    checked(op, name, x);
    const Shape s = shape_of(x);
    const size_t n = s.size();
    const Shape flat = {static_cast<int64_t>(product(s, 0, n - 3)), s[n - 3], s[n - 2], s[n - 1]};
    const Tensor y = n == 4 ? x : torch::stable::reshape(x, flat);
    return y.size(3) > 1 && y.stride(3) != 1 ? torch::stable::contiguous(y) : y;
}

void set_strides(const Tensor &x, ptrdiff_t strides[3]) {
    for (int i = 0; i < 3; i++) {
        strides[i] = x.stride(i);
    }
}

/* A mask that broadcasts to [.., heads, t, s] as [batch, ...] with stride 0 where it repeats. Only
 * its leading axes are written out, and those only where no view can fold them into one. */
Tensor fold_mask(const Tensor &mask, const Shape &target, ptrdiff_t strides[4]) {
    const size_t n = target.size();
    const Shape own = shape_of(mask);
    Shape padded(n, 1);
    bool fits = own.size() <= n;
    for (size_t i = 0; fits && i < own.size(); i++) {
        const size_t axis = n - own.size() + i;
        padded[axis] = own[i];
        fits = own[i] == 1 || own[i] == target[axis];
    }
    if (!fits) {
        fail(op, "expected attn_mask to broadcast to " + text(target) + ", got " + text(own));
    }
    Shape spread = padded;
    std::copy(target.begin(), target.end() - 3, spread.begin());
    const Shape flat = {static_cast<int64_t>(product(target, 0, n - 3)), padded[n - 3],
                        padded[n - 2], padded[n - 1]};
    const Tensor folded =
        torch::stable::reshape(expand(torch::stable::reshape(mask, padded), spread), flat);
    for (int i = 0; i < 4; i++) {
        strides[i] = folded.size(i) == 1 ? 0 : folded.stride(i);
    }
    return folded;
}

void check_shapes(const Tensor &q, const Tensor &k, const Tensor &v) {
    const Shape qs = shape_of(q), ks = shape_of(k), vs = shape_of(v);
    const size_t n = qs.size();
    if (n < 3 || ks.size() != n || ks != vs || qs.back() != ks.back() ||
        !std::equal(qs.begin(), qs.end() - 3, ks.begin())) {
        fail(op, "expected q (.., heads, t, d), k and v (.., kv_heads, s, d), got " + text(qs) +
                     ", " + text(ks) + " and " + text(vs));
    }
    if (qs[n - 3] != ks[n - 3] && (ks[n - 3] == 0 || qs[n - 3] % ks[n - 3] != 0)) {
        fail(op, "expected kv_heads to divide heads, got " + std::to_string(ks[n - 3]) + " and " +
                     std::to_string(qs[n - 3]));
    }
}

} // namespace

Tensor attention(const Tensor &q, const Tensor &q_scale, const Tensor &q_zero_point,
                 int64_t q_quant_min, int64_t q_quant_max, const Tensor &k, const Tensor &k_scale,
                 const Tensor &k_zero_point, int64_t k_quant_min, int64_t k_quant_max,
                 const Tensor &v, const Tensor &v_scale, const Tensor &v_zero_point,
                 int64_t v_quant_min, int64_t v_quant_max, const std::optional<Tensor> &attn_mask,
                 bool is_causal, double scale, StringHandle method, const Tensor &y_scale,
                 const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max,
                 bool /* approximate_gradient */) {
    pq_sim_attention_args args = {};
    args.causal = is_causal;
    args.softmax_scale = scale;
    Call call(op);
    args.method = read_method(call, PQ_METHOD_SOFTMAX, take(method));
    check_shapes(q, k, v);
    args.q_q = grid(call, op, "q", q_scale, q_zero_point, q_quant_min, q_quant_max);
    args.k_q = grid(call, op, "k", k_scale, k_zero_point, k_quant_min, k_quant_max);
    args.v_q = grid(call, op, "v", v_scale, v_zero_point, v_quant_min, v_quant_max);
    args.y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);

    const Tensor q4 = as_4d("q", q), k4 = as_4d("k", k), v4 = as_4d("v", v);
    args.batch = static_cast<size_t>(q4.size(0));
    args.heads = static_cast<size_t>(q4.size(1));
    args.q_len = static_cast<size_t>(q4.size(2));
    args.head_dim = static_cast<size_t>(q4.size(3));
    args.kv_heads = static_cast<size_t>(k4.size(1));
    args.k_len = static_cast<size_t>(k4.size(2));
    args.q = q4.const_data_ptr<float>();
    args.k = k4.const_data_ptr<float>();
    args.v = v4.const_data_ptr<float>();
    set_strides(q4, args.q_strides);
    set_strides(k4, args.k_strides);
    set_strides(v4, args.v_strides);

    std::optional<Tensor> mask;
    if (attn_mask) {
        Shape target = shape_of(q);
        target.back() = k4.size(2);
        if (attn_mask->scalar_type() == torch::headeronly::ScalarType::Bool &&
            attn_mask->is_cpu()) {
            mask = fold_mask(*attn_mask, target, args.keep_strides);
            args.keep = static_cast<const uint8_t *>(mask->const_data_ptr());
        } else {
            mask = fold_mask(checked(op, "attn_mask", *attn_mask), target, args.mask_strides);
            args.mask = mask->const_data_ptr<float>();
        }
    }
    const Tensor y = empty(shape_of(q));
    args.y = y.mutable_data_ptr<float>();
    call.check(pq_sim_attention(call.exec(), &args));
    return y;
}

} // namespace pyquant
