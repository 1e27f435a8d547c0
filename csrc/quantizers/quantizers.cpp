#include "quantizers.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "../cpu.h"

namespace madang {

namespace {

// Columns that importance calls worthless still count this much of the mean: the text it comes from was not all text.
constexpr double kLeastImportance = 1e-4;

// What an error in each column costs: of mean 1, so that sums stay in float's range whatever the importance is of.
std::vector<float> column_weights(const RowsToQuantize& rows) {
    std::vector<float> weights(rows.columns, 1.0f);
    if (!rows.importance) return weights;
    double sum = 0;
    for (int64_t c = 0; c < rows.columns; ++c) sum += double(rows.importance[c]);
    const double mean = sum / double(rows.columns);
    if (!(mean > 0)) return weights;
    for (int64_t c = 0; c < rows.columns; ++c) weights[c] = float(std::max(double(rows.importance[c]) / mean, kLeastImportance));
    return weights;
}

}  // namespace

FitShape fit_shape(Type type) {
    switch (type) {
        case Type::Q2_K: case Type::Q3_K: case Type::Q6_K: return {16, 16};
        case Type::Q4_K: case Type::Q5_K: case Type::IQ4_XS: return {32, 8};
        default: return {32, 1};
    }
}

void quantize_rows(const Quantizers& quantizers, Type type, const RowsToQuantize& rows, ThreadPool& pool, uint8_t* blocks) {
    const Fit fit = quantizers.fit_of(type);
    const PackBlock pack = packer_of(type);
    if (!fit || !pack) throw std::invalid_argument("tensor type " + std::to_string(uint32_t(type)) + " has no quantizer");
    const TypeTraits& traits = *find_traits(uint32_t(type));
    const FitShape shape = fit_shape(type);
    const std::vector<float> weights = column_weights(rows);
    const int64_t n_elements = rows.rows * rows.columns, n_blocks = n_elements / traits.block_elements;

    const auto quantize_group = [&](int64_t group) {
        const int64_t first = group * shape.elements(), end = std::min(first + shape.elements(), n_elements);
        alignas(64) float x[kLanes * 32] = {}, w[kLanes * 32];
        std::fill(std::begin(w), std::end(w), 1.0f);
        std::copy(rows.values + first, rows.values + end, x);
        for (int64_t i = first, column = first % rows.columns; i < end; ++i) {
            w[i - first] = weights[column];
            if (++column == rows.columns) column = 0;
        }
        BlockFields fields[kLanes];
        fit(x, w, fields);
        const int64_t first_block = first / traits.block_elements;
        for (int64_t b = first_block; b < std::min(first_block + shape.blocks(), n_blocks); ++b)
            pack(fields[b - first_block], blocks + b * traits.block_bytes);
    };
    const int64_t n_groups = (n_elements + shape.elements() - 1) / shape.elements();
    pool.run([&](int) {
        pool.share(int(n_groups), 16, [&](Range groups) {
            for (int g = groups.begin; g < groups.end; ++g) quantize_group(g);
        });
    });
}

const Quantizers& select_quantizers(const std::string& isa) {
    const std::string name = select_kernels(isa).name;
#if defined(MADANG_X86)
    if (name.starts_with("avx512")) return kAvx512Quantizers;
    if (name.starts_with("avx2")) return kAvx2Quantizers;
#elif defined(MADANG_ARM64)
    if (name == "neon") return kNeonQuantizers;
#endif
    return kPortableQuantizers;
}

}  // namespace madang
