// Every kernel of every instruction set that can run here, against plain double arithmetic on random data.
//
// Prints a line for each instruction set, and one for each failure; the exit status is 1 after any.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "cpu.h"
#include "half.h"
#include "layout.h"

using namespace madang;

namespace {

constexpr int kTokens = 13;  // tiles of every size
int failures = 0;

void expect(bool good, const char* isa, const std::string& what) {
    if (good) return;
    ++failures;
    std::printf("FAILED on %s: %s\n", isa, what.c_str());
}

using Floats = std::vector<float>;

Floats random_floats(size_t n, std::mt19937& rng, float deviation = 1) {
    std::normal_distribution<float> normal(0, deviation);
    Floats values(n);
    for (float& value : values) value = normal(rng);
    return values;
}

PackedMatrix packed(const TypeTraits& traits, int rows, int columns, const std::vector<uint8_t>& file, bool& finite) {
    PackedMatrix matrix = allocate_matrix(traits, rows, columns);
    finite = true;
    for (int g = 0; g < matrix.groups(); ++g) finite &= pack_group(matrix, g, file.data());
    return matrix;
}

// One block of random bits whose values are numbers of a common size: others make any error look small.
void random_block(const TypeTraits& traits, uint8_t* out, std::mt19937& rng) {
    Floats values(size_t(traits.block_elements));
    while (true) {
        std::vector<uint8_t> bytes(size_t(traits.block_bytes));
        for (uint8_t& byte : bytes) byte = uint8_t(rng());
        bool finite;
        const PackedMatrix block = packed(traits, 1, traits.block_elements, bytes, finite);
        if (!finite) continue;
        unpack_row(block, 0, values.data());
        float largest = 0;
        for (const float value : values) largest = std::max(largest, std::fabs(value));
        if (largest < 1e-2f || largest > 1e2f) continue;
        std::copy(bytes.begin(), bytes.end(), out);
        return;
    }
}

// Rows of activations in every form.
struct Input {
    int columns;
    Floats floats;
    std::vector<uint16_t> bfloats;
    std::vector<QuantizedBlock> blocks;

    Input(const Kernels& kernels, Floats rows, int n_columns, float outlier)
        : columns(n_columns), floats(std::move(rows)), bfloats(floats.size()), blocks(floats.size() / kBlock) {
        kernels.to_bfloat(floats.data(), int(floats.size()), bfloats.data());
        for (size_t at = 0; at < floats.size(); at += size_t(columns))
            kernels.quantize(&floats[at], columns, outlier, &blocks[at / kBlock]);
    }

    Activations activations(int token) const {
        const size_t at = size_t(token) * columns;
        return {columns, &floats[at], &bfloats[at], &blocks[at / kBlock]};
    }
};

// How far a product may be off: half a step of each quantized activation, and the rounding of sums.
double tolerance(const Kernels& kernels, const PackedMatrix& matrix, const Input& in, int token, const float* weights) {
    const bool quantized = is_quantized(matrix.type()), bfloats = matrix.type() == Type::BF16 && kernels.wants_bfloats;
    double steps = 0, magnitude = 0;
    for (int c = 0; c < in.columns; ++c) {
        const size_t at = size_t(token) * in.columns + c;
        const double weight = std::fabs(weights[c]);
        const QuantizedBlock& block = in.blocks[at / kBlock];
        steps += weight * block.scale * (block.wide ? 0.51 : 64.1);
        magnitude += weight * std::fabs(in.floats[at]);
    }
    return (quantized ? steps : 0) + magnitude * (bfloats ? 4e-3 : 3e-6) + 1e-6;
}

void test_products(const Kernels& kernels, const TypeTraits& traits, int rows, int columns, float outlier, std::mt19937& rng) {
    const std::string name = "type " + std::to_string(unsigned(traits.file_type)) + ", " + std::to_string(rows) + " x " + std::to_string(columns);
    std::vector<uint8_t> file(size_t(rows) * columns / traits.block_elements * traits.block_bytes);
    for (size_t at = 0; at < file.size(); at += size_t(traits.block_bytes)) random_block(traits, &file[at], rng);
    bool finite;
    const PackedMatrix matrix = packed(traits, rows, columns, file, finite);
    const Input in(kernels, random_floats(size_t(kTokens) * columns, rng), columns, outlier);
    Floats together(size_t(kTokens) * matrix.padded_rows()), alone(size_t(matrix.padded_rows())), weights(size_t(columns), 0.0f);
    kernels.multiply(matrix, {0, matrix.groups()}, in.activations(0), {0, kTokens}, {together.data(), matrix.padded_rows(), false});
    for (int t = 0; t < kTokens; ++t) {
        const float* out = &together[size_t(t) * matrix.padded_rows()];
        kernels.multiply(matrix, {0, matrix.groups()}, in.activations(t), {0, 1}, {alone.data(), matrix.padded_rows(), false});
        for (int row = 0; row < rows; ++row) {
            unpack_row(matrix, row, weights.data());
            double sum = 0;
            for (int c = 0; c < columns; ++c) sum += double(weights[c]) * in.floats[size_t(t) * columns + c];
            expect(std::fabs(out[row] - sum) <= tolerance(kernels, matrix, in, t, weights.data()), kernels.name,
                   name + ": " + std::to_string(out[row]) + " instead of " + std::to_string(sum));
            expect(out[row] == alone[row], kernels.name, name + ": other bits alone than in a batch");
        }
    }
}

// What a function of rows is off by, as a part of the exact value.
class Comparison {
public:
    Comparison(const Kernels& kernels, double tolerance) : kernels_(kernels), tolerance_(tolerance) {}
    void operator()(float actual, double expected, const char* what) const {
        expect(std::fabs(actual - expected) <= tolerance_ * std::fabs(expected) + 1e-7, kernels_.name, what);
    }

private:
    const Kernels& kernels_;
    double tolerance_;
};

void test_norms(const Kernels& kernels, std::mt19937& rng) {
    constexpr int n = 150, padded = 160;
    const Comparison close(kernels, 2e-6);
    Floats x = random_floats(padded, rng, 10), w = random_floats(padded, rng), bias = random_floats(padded, rng), y(padded);
    std::fill(x.begin() + n, x.end(), 0.0f);
    double squares = 0, mean = 0, variance = 0;
    for (const float value : x) squares += double(value) * value, mean += double(value) / n;
    for (int i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / n;
    kernels.rms_norm(x.data(), w.data(), y.data(), n, 1e-5f);
    for (int i = 0; i < n; ++i) close(y[i], x[i] / std::sqrt(squares / n + 1e-5) * w[i], "rms_norm");
    kernels.layer_norm(x.data(), w.data(), nullptr, y.data(), n, 1e-5f);
    const double scale = 1 / std::sqrt(variance + 1e-5);
    for (int i = 0; i < n; ++i)
        expect(std::fabs(y[i] - (x[i] - mean) * scale * w[i]) < 1e-5, kernels.name, "layer_norm");
    kernels.layer_norm(x.data(), w.data(), bias.data(), y.data(), n, 1e-5f);
    for (int i = 0; i < n; ++i)
        expect(std::fabs(y[i] - ((x[i] - mean) * scale * w[i] + bias[i])) < 1e-5, kernels.name, "layer_norm with a bias");
}

double exactly_activated(Activation activation, double x) {
    switch (activation) {
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::gelu: return x * std::erfc(-x / std::sqrt(2.0)) / 2;
        case Activation::gelu_tanh: return x / (1 + std::exp(-2 * std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
        case Activation::relu: return std::max(x, 0.0);
    }
    return 0;
}

void test_activations(const Kernels& kernels, std::mt19937& rng) {
    constexpr int n = 160;
    const Floats x = random_floats(n, rng, 3), up = random_floats(n, rng);
    for (const Activation activation : {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu})
        for (const float* factor : {up.data(), static_cast<const float*>(nullptr)}) {
            Floats y = x;
            kernels.activate(activation, y.data(), factor, n);
            for (int i = 0; i < n; ++i) {
                const double expected = exactly_activated(activation, x[i]) * (factor ? factor[i] : 1);
                expect(std::fabs(y[i] - expected) <= 1e-5 * std::fabs(expected) + 1e-6, kernels.name, "activate");
            }
        }
    Floats y = x;
    kernels.soft_cap(y.data(), n, 2.5f);
    for (int i = 0; i < n; ++i) expect(std::fabs(y[i] - 2.5 * std::tanh(x[i] / 2.5)) < 1e-6, kernels.name, "soft_cap");
}

void test_rows(const Kernels& kernels, std::mt19937& rng) {
    constexpr int n = 160;
    const Comparison close(kernels, 2e-6);
    const Floats x = random_floats(n, rng, 10);
    Floats y(n);
    double sum = 0;
    const float top = *std::max_element(x.begin(), x.end());
    expect(kernels.max(x.data(), n - 3) == *std::max_element(x.begin(), x.end() - 3), kernels.name, "max");
    const float total = kernels.exponentials(x.data(), top, 0.5f, y.data(), n - 3);
    for (int i = 0; i < n - 3; ++i) {
        close(y[i], std::exp((double(x[i]) - top) * 0.5), "exponentials");
        sum += y[i];
    }
    close(total, sum, "sum of exponentials");
    std::vector<uint16_t> halves(n);
    kernels.to_half(x.data(), n, halves.data());
    for (int i = 0; i < n; ++i) expect(halves[i] == float_to_half(x[i]), kernels.name, "to_half");
    std::vector<int8_t> bytes(n);
    const float scale = kernels.to_int8(x.data(), n, bytes.data());
    for (int i = 0; i < n; ++i)
        expect(std::fabs(x[i] - scale * bytes[i]) <= 0.501f * scale && std::abs(bytes[i]) <= 127, kernels.name, "to_int8");
    const Floats nothing(n);
    expect(kernels.to_int8(nothing.data(), n, bytes.data()) == 0 && bytes == std::vector<int8_t>(n), kernels.name, "to_int8 of 0");
}

// Positions of one kv head on scattered pages, and what attention makes of them in plain arithmetic.
struct PagedHead {
    KvType type;
    int head_dim, stride;
    size_t key_bytes, page_bytes;
    std::vector<int32_t> table;
    std::vector<float> memory;
    std::vector<const uint8_t*> pages;

    PagedHead(KvType kv_type, int positions, int dim, std::mt19937& rng)
        : type(kv_type), head_dim(dim), stride(int(round_up(dim, kLanes))),
          key_bytes(part_bytes(key_stride(), key_groups(dim))), page_bytes(key_bytes + part_bytes(stride, 1)),
          table(size_t(round_up(positions, kPageTokens) / kPageTokens)), memory(table.size() * page_bytes / sizeof(float)) {
        std::iota(table.begin(), table.end(), 0);
        std::shuffle(table.begin(), table.end(), rng);
        for (size_t i = 0; i < table.size(); ++i) {
            uint8_t* page = reinterpret_cast<uint8_t*>(memory.data()) + i * page_bytes;
            fill(page, key_stride(), key_groups(dim), rng);
            fill(page + key_bytes, stride, 1, rng);
            pages.push_back(page);
        }
    }

    int key_stride() const { return type == KvType::f16 ? head_dim : key_groups(head_dim) * kBlock; }
    size_t part_bytes(int n, int n_scales) const { return kPageTokens * (type == KvType::f16 ? 2 * n : n + 4 * n_scales); }

    void fill(uint8_t* part, int n, int n_scales, std::mt19937& rng) const {
        const size_t elements = size_t(n) * kPageTokens;
        if (type == KvType::f16) {
            const Floats values = random_floats(elements, rng);
            std::transform(values.begin(), values.end(), reinterpret_cast<uint16_t*>(part), float_to_half);
        } else {
            std::generate(part, part + elements, [&] { return uint8_t(int8_t(rng() % 255 - 127)); });
            const Floats scales = random_floats(size_t(n_scales) * kPageTokens, rng, 0.01f);
            std::copy(scales.begin(), scales.end(), reinterpret_cast<float*>(part + elements));
        }
    }

    // Element `at` of a part of n a position, with its scale.
    double element(const uint8_t* part, int n, int at, int scale) const {
        if (type == KvType::f16) return half_to_float(reinterpret_cast<const uint16_t*>(part)[at]);
        return reinterpret_cast<const int8_t*>(part)[at] * double(reinterpret_cast<const float*>(part + n * kPageTokens)[scale]);
    }

    const uint8_t* at(int position) const { return pages[size_t(table[size_t(position / kPageTokens)])]; }
    double key(int position, int d) const {
        const int slot = position % kPageTokens;
        const int at_int8 = (d / 4 * kPageTokens + slot) * 4 + d % 4;
        return element(at(position), key_stride(), type == KvType::f16 ? d * kPageTokens + slot : at_int8,
                       d / kBlock * kPageTokens + slot);
    }
    double value(int position, int d) const {
        const int slot = position % kPageTokens;
        return element(at(position) + key_bytes, stride, slot * stride + d, slot);
    }

    std::vector<double> attended(const float* query, int first, int last, double softcap) const {
        std::vector<double> result(size_t(head_dim), 0.0);
        double total = 0;
        for (int p = first; p <= last; ++p) {
            double score = 0;
            for (int d = 0; d < head_dim; ++d) score += query[d] * key(p, d);
            const double weight = std::exp(softcap > 0 ? softcap * std::tanh(score / softcap) : score);
            total += weight;
            for (int d = 0; d < head_dim; ++d) result[size_t(d)] += weight * value(p, d);
        }
        for (double& value : result) value /= total;
        return result;
    }
};

// Queries that see different ranges, in tiles of every size.
void test_attention(const Kernels& kernels, KvType type, int head_dim, int positions, float softcap, std::mt19937& rng) {
    const PagedHead head(type, positions, head_dim, rng);
    Floats scratch(size_t(attention_scratch_floats(head_dim)));
    for (int n = 1; n <= kMaxQueryTile; ++n) {
        const Floats queries = random_floats(size_t(n) * head_dim, rng, 0.3f);
        Floats outputs(size_t(n) * head_dim);
        std::vector<const float*> rows;
        std::vector<float*> outs;
        std::vector<int> first, last;
        for (int q = 0; q < n; ++q) {
            rows.push_back(&queries[size_t(q) * head_dim]);
            outs.push_back(&outputs[size_t(q) * head_dim]);
            last.push_back(q == 1 ? 0 : positions - 1 - q);
            first.push_back(q % 3 == 2 ? positions / 2 - q : 0);
        }
        kernels.attend({.n_queries = n, .head_dim = head_dim, .value_stride = head.stride, .queries = rows.data(),
                        .softcap = softcap, .first = first.data(), .last = last.data(), .page_table = head.table.data(),
                        .pages = head.pages.data(), .key_offset = 0, .value_offset = head.key_bytes,
                        .kv_type = type, .outputs = outs.data(), .scratch = scratch.data()});
        for (int q = 0; q < n; ++q) {
            const std::vector<double> expected = head.attended(rows[q], first[q], last[q], softcap);
            for (int d = 0; d < head_dim; ++d)  // int8 keys meet queries of 15 bits
                expect(std::fabs(outs[q][d] - expected[size_t(d)]) < (type == KvType::f16 ? 1e-5 : 3e-4), kernels.name, "attend");
        }
    }
}

}  // namespace

int main() {
    for (const std::string& isa : available_isas()) {
        const Kernels& kernels = select_kernels(isa);
        std::mt19937 rng(1);
        for (const TypeTraits& traits : all_traits())
            for (const int n_blocks : {1, 3}) {
                const int columns = n_blocks * std::max(traits.block_elements, 32);
                test_products(kernels, traits, 21, columns, 0, rng);
                test_products(kernels, traits, 16, columns, 1.2f, rng);
            }
        test_norms(kernels, rng);
        test_activations(kernels, rng);
        test_rows(kernels, rng);
        for (const KvType type : {KvType::f16, KvType::int8}) {
            test_attention(kernels, type, 40, 40, 0, rng);
            test_attention(kernels, type, 64, 600, 1.5f, rng);
        }
        std::printf("%s: %d failures so far\n", isa.c_str(), failures);
    }
    return failures > 0;
}
