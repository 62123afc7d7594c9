#include "torch/shim.h"

namespace pyquant {

using torch::headeronly::ScalarType;

/* float32 of the shape of the gradient, contiguous. */
static Tensor like(const char *op, const char *name, const Tensor &x, const Shape &shape) {
    const Tensor result = contiguous(op, name, x);
    if (shape_of(result) != shape) {
        fail(op, std::string("expected ") + name + " of the shape of grad, " + text(shape) +
                     ", got " + text(shape_of(result)));
    }
    return result;
}

Tensor edge_backward(const Tensor &grad, const Tensor &y, const Tensor &scale,
                     const Tensor &zero_point, int64_t quant_min, int64_t quant_max) {
    static const char op[] = "edge_backward";
    Call call(op);
    const Tensor g = contiguous(op, "grad", grad);
    const Shape shape = shape_of(g);
    const Tensor values = like(op, "y", y, shape);
    const pq_affine edge = grid(call, op, "", scale, zero_point, quant_min, quant_max);
    const Tensor out = empty(g, shape);
    call.check(pq_edge_backward(call.exec(), static_cast<size_t>(g.numel()), edge,
                                g.const_data_ptr<float>(), values.const_data_ptr<float>(),
                                out.mutable_data_ptr<float>()));
    return out;
}

std::tuple<Tensor, Tensor> edge_backward_learned(const Tensor &grad, const Tensor &real,
                                                 const Tensor &y, const Tensor &scale,
                                                 const Tensor &zero_point, int64_t quant_min,
                                                 int64_t quant_max) {
    static const char op[] = "edge_backward_learned";
    Call call(op);
    const Tensor g = contiguous(op, "grad", grad);
    const Shape shape = shape_of(g);
    const Tensor function = like(op, "real", real, shape), values = like(op, "y", y, shape);
    const pq_affine edge = grid(call, op, "", scale, zero_point, quant_min, quant_max);
    const Tensor out = empty(g, shape);
    const Tensor sum = torch::stable::new_empty(g, Shape{}, ScalarType::Double);
    call.check(pq_edge_backward_learned(
        call.exec(), static_cast<size_t>(g.numel()), edge, g.const_data_ptr<float>(),
        function.const_data_ptr<float>(), values.const_data_ptr<float>(),
        out.mutable_data_ptr<float>(), sum.mutable_data_ptr<double>()));
    return {out, sum};
}

} // namespace pyquant
