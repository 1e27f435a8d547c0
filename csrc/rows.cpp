#include "rows.h"

namespace madang {

namespace {
float* floats_of(const Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }
}  // namespace

void Rows::set_width(int n, float outlier) {
    width_ = int(round_up(n, kBlock));
    outlier_ = outlier;
}

bool Rows::add_reader(const PackedMatrix& matrix, const Kernels& kernels) {
    const bool quants = !wants_quants_ && is_quantized(matrix.type());
    const bool bfloats = !wants_bfloats_ && matrix.type() == Type::BF16 && kernels.wants_bfloats;
    wants_quants_ |= quants;
    wants_bfloats_ |= bfloats;
    return quants || bfloats;
}

void Rows::resize(int n) {
    n_rows_ = 0;
    const size_t elements = size_t(n) * width_;
    floats_ = Buffer(elements * 4);
    if (wants_bfloats_) bfloats_ = Buffer(elements * 2);
    if (wants_quants_) blocks_ = Buffer(elements / kBlock * sizeof(QuantizedBlock));
    n_rows_ = n;
}

void Rows::encode(const Kernels& kernels, int t) const {
    const size_t at = size_t(t) * width_;
    if (wants_quants_) kernels.quantize(row(t), width_, outlier_, reinterpret_cast<QuantizedBlock*>(blocks_.data()) + at / kBlock);
    if (wants_bfloats_) kernels.to_bfloat(row(t), width_, reinterpret_cast<uint16_t*>(bfloats_.data()) + at);
}

Activations Rows::activations() const {
    return {width_, floats_of(floats_), reinterpret_cast<const uint16_t*>(bfloats_.data()),
            reinterpret_cast<const QuantizedBlock*>(blocks_.data())};
}

}  // namespace madang
