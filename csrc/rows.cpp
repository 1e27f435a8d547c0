#include "rows.h"

namespace madang {

namespace {
float* floats_of(const Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }
}  // namespace

void Rows::set_width(int n, float outlier) {
    width_ = int(round_up(n, kBlock));
    outlier_ = outlier;
}

void Rows::add_reader(const PackedMatrix& matrix, const Kernels& kernels) {
    wants_quants_ |= is_quantized(matrix.type());
    wants_bfloats_ |= matrix.type() == Type::BF16 && kernels.wants_bfloats;
}

void Rows::resize(int n) {
    n_rows_ = 0;
    const size_t elements = size_t(n) * width_;
    floats_ = Buffer(elements * 4);
    if (wants_bfloats_) bfloats_ = Buffer(elements * 2);
    if (wants_quants_) {
        quants_ = Buffer(elements * 2);
        wide_ = Buffer(elements / kBlock);
        scales_ = Buffer(elements / kBlock * 4);
        sums_ = Buffer(elements / kBlock * 8);
    }
    n_rows_ = n;
}

void Rows::encode(const Kernels& kernels, int t) const {
    const size_t at = size_t(t) * width_, block = at / kBlock;
    if (wants_quants_)
        kernels.quantize(row(t), width_, outlier_, {reinterpret_cast<int8_t*>(quants_.data()) + at * 2, wide_.data() + block,
                                                    floats_of(scales_) + block, floats_of(sums_) + block * 2});
    if (wants_bfloats_) kernels.to_bfloat(row(t), width_, reinterpret_cast<uint16_t*>(bfloats_.data()) + at);
}

Activations Rows::activations() const {
    return {width_, floats_of(floats_), reinterpret_cast<const uint16_t*>(bfloats_.data()),
            reinterpret_cast<const int8_t*>(quants_.data()), wide_.data(), floats_of(scales_), floats_of(sums_)};
}

}  // namespace madang
