#include "torch/shim.h"

namespace pyquant {

Tensor linear(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
              int64_t x_quant_min, int64_t x_quant_max, const Tensor &weight,
              const std::optional<Tensor> &bias, const std::optional<Tensor> &weight_scale,
              int64_t weight_bits, int64_t group_size, const Tensor &y_scale,
              const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max) {
    static const char op[] = "linear";
    Call call(op);
    const Tensor in = contiguous(op, "x", x);
    const Tensor w = contiguous(op, "weight", weight);
    Shape shape = shape_of(in);
    if (shape.empty() || w.dim() != 2 || shape.back() != w.size(1)) {
        fail(op, "expected x (.., k) and weight (n, k), got " + text(shape) + " and " +
                     text(shape_of(w)));
    }
    const int64_t n = w.size(0);
    const auto b = array_of(op, "bias", bias, {n});
    if (weight_bits < 2 || weight_bits > 8) {
        fail(op, "expected weight_bits in [2, 8], got " + std::to_string(weight_bits));
    }
    if (group_size < 0 || group_size % 4 != 0 || (group_size > 0 && weight_bits > 4)) {
        fail(op, "expected group_size 0, or a multiple of 4 with weight_bits <= 4, got " +
                     std::to_string(group_size) + " with " + std::to_string(weight_bits));
    }
    Shape scales = {n}; /* one a channel, or one a group */
    if (group_size > 0) {
        scales.push_back(static_cast<int64_t>(
            pq_s4_groups(static_cast<size_t>(shape.back()), static_cast<size_t>(group_size))));
    }
    const auto w_scale = array_of(op, "weight_scale", weight_scale, scales);
    const pq_affine x_q = grid(call, op, "x", x_scale, x_zero_point, x_quant_min, x_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const size_t k = static_cast<size_t>(shape.back());
    const size_t rows = product(shape, 0, shape.size() - 1);
    shape.back() = n;
    const Tensor y = empty(shape);
    call.check(pq_sim_linear(call.exec(), rows, static_cast<size_t>(n), k,
                             in.const_data_ptr<float>(), x_q, w.const_data_ptr<float>(),
                             data_or_null(b), data_or_null(w_scale), static_cast<int>(weight_bits),
                             static_cast<size_t>(group_size), y_q, y.mutable_data_ptr<float>()));
    return y;
}

Tensor layer_norm(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
                  int64_t x_quant_min, int64_t x_quant_max, const std::optional<Tensor> &weight,
                  const std::optional<Tensor> &bias, double eps, bool rms, StringHandle method,
                  const std::optional<Tensor> &x_range, const Tensor &y_scale,
                  const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max,
                  bool /* approximate_gradient */) {
    static const char op[] = "layer_norm";
    Call call(op);
    const std::string name = take(method);
    pq_method chosen;
    call.check(pq_method_parse(call.exec(), PQ_METHOD_NORM, name.c_str(), &chosen));
    const Tensor in = contiguous(op, "x", x);
    const Shape shape = shape_of(in);
    if (shape.empty() || shape.back() < 1 || shape.back() > INT16_MAX) {
        fail(op, "expected a last axis of 1 to 32767 channels, got shape " + text(shape));
    }
    const auto gamma = array_of(op, "weight", weight, {shape.back()});
    const auto beta = array_of(op, "bias", bias, {shape.back()});
    const auto range = array_of(op, "x_range", x_range, {2, shape.back()});
    const pq_affine x_q = grid(call, op, "x", x_scale, x_zero_point, x_quant_min, x_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const Tensor y = empty(shape);
    call.check(pq_sim_layernorm(call.exec(), product(shape, 0, shape.size() - 1),
                                static_cast<size_t>(shape.back()), in.const_data_ptr<float>(), x_q,
                                data_or_null(gamma), data_or_null(beta), eps, rms, &chosen,
                                data_or_null(range), y_q, y.mutable_data_ptr<float>()));
    return y;
}

} // namespace pyquant
