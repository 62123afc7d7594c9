#include <algorithm>

#include "torch/shim.h"

namespace pyquant {

Tensor quantize(const Tensor &x, const Tensor &scale, const Tensor &zero_point, int64_t quant_min,
                int64_t quant_max) {
    static const char op[] = "quantize";
    Call call(op);
    const Tensor in = contiguous(op, "x", x);
    const pq_affine q = grid(call, op, "", scale, zero_point, quant_min, quant_max);
    const Tensor y = empty(shape_of(in));
    pq_quantize_args args = {};
    args.n = static_cast<size_t>(in.numel());
    args.q_type = PQ_S16; /* every grid fits; nothing is stored */
    args.scale = &q.scale;
    args.channels = args.inner = 1;
    args.zero_point = q.zero_point;
    args.quant_min = q.quant_min;
    args.quant_max = q.quant_max;
    call.check(pq_fake_quantize_f32(call.exec(), &args, in.const_data_ptr<float>(),
                                    y.mutable_data_ptr<float>()));
    return y;
}

Tensor requantize(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
                  int64_t x_quant_min, int64_t x_quant_max, const Tensor &y_scale,
                  const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max) {
    static const char op[] = "requantize";
    Call call(op);
    const Tensor in = contiguous(op, "x", x);
    const pq_affine x_q = grid(call, op, "x", x_scale, x_zero_point, x_quant_min, x_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const Tensor y = empty(shape_of(in));
    call.check(pq_sim_requantize(call.exec(), static_cast<size_t>(in.numel()),
                                 in.const_data_ptr<float>(), x_q, y_q,
                                 y.mutable_data_ptr<float>()));
    return y;
}

static pq_unary find_function(const std::string &name) {
    std::string all;
    for (int i = 0; i < PQ_UNARY_COUNT; i++) {
        const std::string candidate = pq_unary_name(static_cast<pq_unary>(i));
        if (candidate == name) {
            return static_cast<pq_unary>(i);
        }
        all += (i == 0 ? "" : ", ") + candidate;
    }
    fail("unary", "expected one of " + all + ", got '" + name + "'");
}

Tensor unary(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
             int64_t x_quant_min, int64_t x_quant_max, StringHandle function, StringHandle method,
             const Tensor &y_scale, const Tensor &y_zero_point, int64_t y_quant_min,
             int64_t y_quant_max, bool /* approximate_gradient */) {
    static const char op[] = "unary";
    const std::string function_name = take(function), method_text = take(method);
    const pq_unary which = find_function(function_name);
    Call call(op);
    pq_method how;
    call.check(pq_method_parse(call.exec(), PQ_METHOD_UNARY, method_text.c_str(), &how));
    const Tensor in = contiguous(op, "x", x);
    const pq_affine x_q = grid(call, op, "x", x_scale, x_zero_point, x_quant_min, x_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const Tensor y = empty(shape_of(in));
    call.check(pq_sim_unary(call.exec(), static_cast<size_t>(in.numel()),
                            in.const_data_ptr<float>(), x_q, which, &how, y_q,
                            y.mutable_data_ptr<float>()));
    return y;
}

static Shape broadcast(const Shape &a, const Shape &b) {
    Shape out(std::max(a.size(), b.size()));
    for (size_t i = 0; i < out.size(); i++) { /* axes counted from the back */
        const int64_t m = i < a.size() ? a[a.size() - 1 - i] : 1;
        const int64_t n = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (m != n && m != 1 && n != 1) {
            fail("add", "expected shapes that broadcast, got " + text(a) + " and " + text(b));
        }
        out[out.size() - 1 - i] = m == 1 ? n : m;
    }
    return out;
}

/* Whether `shape`, leading ones aside, is the tail of `full`: then it simply repeats. */
static bool is_tail(const Shape &shape, const Shape &full) {
    const auto begin = std::find_if(shape.begin(), shape.end(), [](int64_t s) { return s != 1; });
    const auto length = shape.end() - begin;
    return std::equal(begin, shape.end(), full.end() - length);
}

Tensor add(const Tensor &a, const Tensor &a_scale, const Tensor &a_zero_point, int64_t a_quant_min,
           int64_t a_quant_max, const Tensor &b, const Tensor &b_scale, const Tensor &b_zero_point,
           int64_t b_quant_min, int64_t b_quant_max, const Tensor &y_scale,
           const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max) {
    static const char op[] = "add";
    Call call(op);
    checked(op, "a", a);
    checked(op, "b", b);
    const pq_affine a_q = grid(call, op, "a", a_scale, a_zero_point, a_quant_min, a_quant_max);
    const pq_affine b_q = grid(call, op, "b", b_scale, b_zero_point, b_quant_min, b_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const Shape full = broadcast(shape_of(a), shape_of(b));
    const Tensor y = empty(full);
    const size_t n = static_cast<size_t>(y.numel());
    if (n == 0) {
        return y;
    }
    /* The sum commutes, multipliers included: whichever operand repeats goes second. */
    const bool swap = shape_of(a) != full && is_tail(shape_of(a), full) && shape_of(b) == full;
    const Tensor &first = swap ? b : a;
    const Tensor &second = swap ? a : b;
    const bool repeats = is_tail(shape_of(second), full);
    const Tensor x1 = contiguous(op, swap ? "b" : "a", expand(first, full));
    const Tensor x2 = contiguous(op, swap ? "a" : "b", repeats ? second : expand(second, full));
    call.check(pq_sim_add(call.exec(), n, static_cast<size_t>(x2.numel()),
                          x1.const_data_ptr<float>(), swap ? b_q : a_q, x2.const_data_ptr<float>(),
                          swap ? a_q : b_q, y_q, y.mutable_data_ptr<float>()));
    return y;
}

Tensor mean(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point, int64_t x_quant_min,
            int64_t x_quant_max, const Shape &dim, bool keepdim, const Tensor &y_scale,
            const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max) {
    static const char op[] = "mean";
    Call call(op);
    checked(op, "x", x);
    const pq_affine x_q = grid(call, op, "x", x_scale, x_zero_point, x_quant_min, x_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const Shape shape = shape_of(x);
    const int64_t ndim = x.dim();
    std::vector<bool> reduced(shape.size(), dim.empty());
    for (const int64_t d : dim) {
        const int64_t axis = d < 0 ? d + ndim : d;
        if (axis < 0 || axis >= ndim || reduced[static_cast<size_t>(axis)]) {
            fail(op, "expected different axes of a tensor of " + std::to_string(ndim) +
                         " dimensions, got " + text(dim));
        }
        reduced[static_cast<size_t>(axis)] = true;
    }
    /* Axes before, inside and behind the reduction; where those inside do not lie together, the
     * reduced ones move to the end. */
    Shape order, inside, out;
    for (int64_t d = 0; d < ndim; d++) {
        const bool gone = reduced[static_cast<size_t>(d)];
        (gone ? inside : order).push_back(d);
        if (!gone || keepdim) {
            out.push_back(gone ? 1 : shape[static_cast<size_t>(d)]);
        }
    }
    const bool together =
        inside.empty() || inside.back() - inside.front() + 1 == static_cast<int64_t>(inside.size());
    Tensor in = x;
    Shape in_shape = shape;
    size_t begin = inside.empty() ? 0 : static_cast<size_t>(inside.front());
    if (!together) {
        begin = order.size();
        order.insert(order.end(), inside.begin(), inside.end());
        in = permute(x, order);
        in_shape = shape_of(in);
    }
    in = contiguous(op, "x", in);
    const size_t end = begin + inside.size();
    const Tensor y = empty(out);
    call.check(pq_sim_mean(call.exec(), product(in_shape, 0, begin), product(in_shape, begin, end),
                           product(in_shape, end, in_shape.size()), in.const_data_ptr<float>(), x_q,
                           y_q, y.mutable_data_ptr<float>()));
    return y;
}

} // namespace pyquant
