#include "torch/shim.h"

namespace pyquant {

Tensor softmax(const Tensor &x, const Tensor &x_scale, const Tensor &x_zero_point,
               int64_t x_quant_min, int64_t x_quant_max, StringHandle method, const Tensor &y_scale,
               const Tensor &y_zero_point, int64_t y_quant_min, int64_t y_quant_max,
               bool /* approximate_gradient */) {
    static const char op[] = "softmax";
    Call call(op);
    const pq_method which = read_method(call, PQ_METHOD_SOFTMAX, take(method));
    const Tensor in = contiguous(op, "x", x);
    const Shape shape = shape_of(in);
    if (shape.empty()) {
        fail(op, "expected x of at least 1 axis, got shape ()");
    }
    const pq_affine x_q = grid(call, op, "x", x_scale, x_zero_point, x_quant_min, x_quant_max);
    const pq_affine y_q = grid(call, op, "y", y_scale, y_zero_point, y_quant_min, y_quant_max);
    const Tensor y = empty(shape);
    call.check(pq_sim_softmax(call.exec(), product(shape, 0, shape.size() - 1),
                              static_cast<size_t>(shape.back()), in.const_data_ptr<float>(), x_q,
                              &which, y_q, y.mutable_data_ptr<float>()));
    return y;
}

} // namespace pyquant
