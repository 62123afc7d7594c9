#include "torch/shim.h"

STABLE_TORCH_LIBRARY_IMPL(pyquant, CPU, m) {
    m.impl("quantize", TORCH_BOX(&pyquant::quantize));
    m.impl("requantize", TORCH_BOX(&pyquant::requantize));
    m.impl("linear", TORCH_BOX(&pyquant::linear));
    m.impl("attention", TORCH_BOX(&pyquant::attention));
    m.impl("layer_norm", TORCH_BOX(&pyquant::layer_norm));
    m.impl("softmax", TORCH_BOX(&pyquant::softmax));
    m.impl("unary", TORCH_BOX(&pyquant::unary));
    m.impl("add", TORCH_BOX(&pyquant::add));
    m.impl("mean", TORCH_BOX(&pyquant::mean));
    m.impl("fake_quantize", TORCH_BOX(&pyquant::fake_quantize));
    m.impl("fake_quantize_backward", TORCH_BOX(&pyquant::fake_quantize_backward));
    m.impl("fake_quantize_learned", TORCH_BOX(&pyquant::fake_quantize_learned));
    m.impl("fake_quantize_learned_backward", TORCH_BOX(&pyquant::fake_quantize_learned_backward));
    m.impl("fake_quantize_stochastic", TORCH_BOX(&pyquant::fake_quantize_stochastic));
    m.impl("edge_backward", TORCH_BOX(&pyquant::edge_backward));
    m.impl("edge_backward_learned", TORCH_BOX(&pyquant::edge_backward_learned));
    m.impl("lookup_backward", TORCH_BOX(&pyquant::lookup_backward));
    m.impl("observe_minmax", TORCH_BOX(&pyquant::observe_minmax));
    m.impl("observe_histogram", TORCH_BOX(&pyquant::observe_histogram));
    m.impl("fake_levels", TORCH_BOX(&pyquant::fake_levels));
    m.impl("fake_levels_learned", TORCH_BOX(&pyquant::fake_levels_learned));
    m.impl("fake_levels_learned_backward", TORCH_BOX(&pyquant::fake_levels_learned_backward));
}
