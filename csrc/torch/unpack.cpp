#include <algorithm>
#include <array>
#include <numeric>
#include <sstream>
#include <stdexcept>

#include "torch/shim.h"

namespace pyquant {

using torch::headeronly::ScalarType;

void fail(const std::string &op, const std::string &rule) {
    throw std::runtime_error(op + ": " + rule);
}

std::string text(const Shape &shape) {
    std::ostringstream out;
    out << '(';
    for (size_t i = 0; i < shape.size(); i++) {
        out << (i == 0 ? "" : ", ") << shape[i];
    }
    out << (shape.size() == 1 ? ",)" : ")");
    return out.str();
}

pq_method read_method(const Call &call, pq_method_op op, const std::string &text) {
    pq_method method = {};
    call.check(pq_method_parse(call.exec(), op, text.c_str(), &method));
    return method;
}

Shape shape_of(const Tensor &x) {
    const auto sizes = x.sizes();
    return Shape(sizes.begin(), sizes.end());
}

size_t product(const Shape &shape, size_t begin, size_t end) {
    size_t result = 1;
    for (size_t i = begin; i < end; i++) {
        result *= static_cast<size_t>(shape[i]);
    }
    return result;
}

const Tensor &checked(const char *op, const char *name, const Tensor &x) {
    const ScalarType type = x.scalar_type();
    if (type != ScalarType::Float) {
        const bool half = type == ScalarType::Half || type == ScalarType::BFloat16;
        const char *found = type == ScalarType::Half       ? "torch.float16"
                            : type == ScalarType::BFloat16 ? "torch.bfloat16"
                            : type == ScalarType::Double   ? "torch.float64"
                                                           : "another";
        fail(op, std::string("expected ") + name + " of dtype torch.float32, got " + found +
                     (half ? " (a quantized edge cannot pass through half precision)" : ""));
    }
    if (!x.is_cpu() || x.layout() != torch::headeronly::Layout::Strided) {
        fail(op, std::string("expected a strided ") + name + " on the CPU");
    }
    return x;
}

Tensor make_contiguous(const Tensor &x) {
    return x.is_contiguous() ? x : torch::stable::contiguous(x);
}

std::optional<Tensor> array_of(const char *op, const char *name, const std::optional<Tensor> &x,
                               const Shape &shape) {
    if (!x) {
        return std::nullopt;
    }
    checked(op, name, *x);
    if (shape_of(*x) != shape) {
        fail(op,
             std::string("expected ") + name + " " + text(shape) + ", got " + text(shape_of(*x)));
    }
    return contiguous(op, name, *x);
}

static void check_scalar(const char *op, const std::string &name, const Tensor &x, ScalarType type,
                         const char *type_name) {
    if (x.scalar_type() != type || x.dim() != 0 || !x.is_cpu()) {
        fail(op, "expected " + name + " as a scalar CPU tensor of dtype " + type_name +
                     ", got shape " + text(shape_of(x)));
    }
}

pq_affine grid(const Call &call, const char *op, const std::string &name, const Tensor &scale,
               const Tensor &zero_point, int64_t quant_min, int64_t quant_max) {
    const std::string prefix = name.empty() ? "" : name + "_";
    check_scalar(op, prefix + "scale", scale, ScalarType::Float, "torch.float32");
    check_scalar(op, prefix + "zero_point", zero_point, ScalarType::Int, "torch.int32");
    if (quant_min < INT16_MIN || quant_min > quant_max || quant_max > INT16_MAX) {
        fail(op, "expected -32768 <= " + prefix + "quant_min <= " + prefix +
                     "quant_max <= 32767, got " + std::to_string(quant_min) + " and " +
                     std::to_string(quant_max));
    }
    const pq_affine affine = {*scale.const_data_ptr<float>(), *zero_point.const_data_ptr<int32_t>(),
                              static_cast<int32_t>(quant_min), static_cast<int32_t>(quant_max)};
    call.check(pq_affine_check(call.exec(), op, name.empty() ? "x" : name.c_str(), affine));
    return affine;
}

/* Not by the dispatcher, which looks an op up by its name: for a small tensor that costs as much as
 * the op does. */
Tensor empty(const Shape &shape, ScalarType type) {
    Shape strides(shape.size());
    int64_t stride = 1;
    for (size_t i = shape.size(); i-- > 0;) {
        strides[i] = stride;
        stride *= std::max<int64_t>(shape[i], 1);
    }
    const auto dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
    AtenTensorHandle made = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(shape.size()),
                                                           shape.data(), strides.data(), dtype,
                                                           aoti_torch_device_type_cpu(), 0, &made));
    return Tensor(made);
}

template <class... Rest>
static Tensor dispatch(const char *aten_op, const Tensor &x, const Shape &shape, Rest... rest) {
    std::array<StableIValue, 2 + sizeof...(Rest)> stack{torch::stable::detail::from(x),
                                                        torch::stable::detail::from(shape),
                                                        torch::stable::detail::from(rest)...};
    STABLE_TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher(aten_op, "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
}

Tensor expand(const Tensor &x, const Shape &shape) {
    return dispatch("aten::expand", x, shape, false);
}

Tensor permute(const Tensor &x, const Shape &order) {
    return std::is_sorted(order.begin(), order.end()) ? x : dispatch("aten::permute", x, order);
}

Shape memory_order(const Tensor &x) {
    Shape order(static_cast<size_t>(x.dim()));
    std::iota(order.begin(), order.end(), 0);
    if (x.is_contiguous()) {
        return order;
    }
    const auto strides = x.strides();
    Shape sorted = order;
    std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) {
        return strides[static_cast<size_t>(a)] > strides[static_cast<size_t>(b)];
    });
    return permute(x, sorted).is_contiguous() ? sorted : order;
}

Shape inverse(const Shape &order) {
    Shape back(order.size());
    for (size_t i = 0; i < order.size(); i++) {
        back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    }
    return back;
}

std::string take(StringHandle handle) {
    size_t length = 0;
    const char *characters = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_length(handle, &length));
    STABLE_TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle, &characters));
    std::string result(characters, length);
    STABLE_TORCH_ERROR_CODE_CHECK(torch_delete_string(handle));
    return result;
}

} // namespace pyquant
