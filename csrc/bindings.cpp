// The Python face of the core. Calls that compute release the interpreter lock; exceptions become ValueError.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "decoder.h"
#include "likelihood.h"
#include "quantizers/quantizers.h"
#include "sampler.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace madang;

namespace {

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Reals = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Octets = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bits = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
std::span<const T> span_of(const nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>& array) {
    return {array.data(), array.size()};
}

template <class Array>
auto span_of(const std::optional<Array>& array) {
    return array ? span_of(*array) : decltype(span_of(*array)){};
}

// An array of Python's own.
template <class T, size_t n_dims>
nb::ndarray<nb::numpy, T, nb::ndim<n_dims>> copy_of(std::span<const T> values, const std::array<size_t, n_dims>& shape) {
    T* copy = new T[values.size()];
    std::copy(values.begin(), values.end(), copy);
    return {copy, n_dims, shape.data(), nb::capsule(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); })};
}

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> copy_of(std::span<const T> values) {
    return copy_of<T, 1>(values, {values.size()});
}

const TypeTraits& traits_of(uint32_t type) {
    if (const TypeTraits* traits = find_traits(type)) return *traits;
    throw std::invalid_argument("tensor type " + std::to_string(type) + " is not one of this engine");
}

nb::ndarray<nb::numpy, float, nb::ndim<2>> unpacked(uint32_t type, int rows, int columns, const Octets& bytes) {
    PackedMatrix matrix = allocate_matrix(traits_of(type), rows, columns);
    if (bytes.size() != size_t(rows) * (columns / matrix.traits->block_elements) * matrix.traits->block_bytes)
        throw std::invalid_argument("the bytes are not those of such a matrix");
    for (int g = 0; g < matrix.groups(); ++g)
        if (!pack_group(matrix, g, bytes.data())) throw std::invalid_argument("the matrix holds NaN or infinity");
    std::vector<float> values(size_t(rows) * columns);
    for (int row = 0; row < rows; ++row) unpack_row(matrix, row, values.data() + size_t(row) * columns);
    return copy_of<float, 2>(values, {size_t(rows), size_t(columns)});
}

// Rows of logits against a reference's: [n][3] divergence and the log-probabilities of the target; and whether the likeliest agree.
nb::tuple divergences(const Matrix& reference, const Matrix& logits, const Ints& targets) {
    const size_t n = reference.shape(0), width = reference.shape(1);
    if (logits.shape(0) != n || logits.shape(1) != width || targets.shape(0) != n)
        throw std::invalid_argument("rows, words and targets do not belong together");
    std::vector<double> figures(3 * n);
    std::vector<uint8_t> agree(n);
    {
        nb::gil_scoped_release release;
        const Kernels& kernels = select_kernels("");
        for (size_t i = 0; i < n; ++i) {
            const Divergence found = divergence({reference.data() + i * width, width}, {logits.data() + i * width, width},
                                                targets.data()[i], kernels);
            figures[3 * i] = found.kl, figures[3 * i + 1] = found.reference_logprob, figures[3 * i + 2] = found.logprob;
            agree[i] = found.agrees;
        }
    }
    return nb::make_tuple(copy_of<double, 2>(figures, {n, 3}), copy_of<uint8_t>(agree));
}

nb::ndarray<nb::numpy, uint8_t, nb::ndim<2>> quantized(uint32_t type, const Matrix& values, const std::optional<Reals>& importance,
                                                       const std::optional<Matrix>& passed_on, int n_threads,
                                                       const std::string& isa) {
    const TypeTraits& traits = traits_of(type);
    const int64_t rows = int64_t(values.shape(0)), columns = int64_t(values.shape(1));
    if (columns % traits.block_elements != 0) throw std::invalid_argument("a row must be a whole number of its type's blocks");
    if (importance && int64_t(importance->size()) != columns) throw std::invalid_argument("importance must have a number per column");
    if (passed_on && (int64_t(passed_on->shape(0)) != columns || int64_t(passed_on->shape(1)) != columns))
        throw std::invalid_argument("what is passed on must be a matrix of columns by columns");
    const int64_t row_bytes = columns / traits.block_elements * traits.block_bytes;
    std::vector<uint8_t> blocks(size_t(rows * row_bytes));
    {
        const nb::gil_scoped_release release;
        ThreadPool pool(n_threads);
        const RowsToQuantize matrix{values.data(), importance ? importance->data() : nullptr, rows, columns,
                                    passed_on ? passed_on->data() : nullptr};
        quantize_rows(select_quantizers(isa), traits.file_type, matrix, pool, blocks.data());
    }
    return copy_of<uint8_t, 2>(blocks, {size_t(rows), size_t(row_bytes)});
}

void bind_types(nb::module_& m) {
    m.def(
        "tensor_types",
        [] {
            std::vector<std::pair<uint32_t, std::pair<int, int>>> types;
            for (const TypeTraits& t : all_traits()) types.push_back({uint32_t(t.file_type), {t.block_elements, t.block_bytes}});
            return types;
        },
        "The types that run: (id, (elements, bytes) of a block).");
    m.def(
        "packed_bytes", [](uint32_t type, int rows, int columns) { return packed_bytes(traits_of(type), rows, columns); },
        "type"_a, "rows"_a, "columns"_a, "What a matrix takes in memory.");
    m.def("unpacked", &unpacked, "type"_a, "rows"_a, "columns"_a, "data"_a,
          "The float32 values of a matrix that was packed: what products and embeddings see.");
    m.def("quantized", &quantized, "type"_a, "values"_a, "importance"_a.none(), "passed_on"_a.none(), "n_threads"_a, "isa"_a = "",
          "The bytes of a matrix in a type of blocks, [rows, bytes of a row].");
}

void bind_shape(nb::module_& m) {
    nb::enum_<Activation>(m, "Activation")
        .value("silu", Activation::silu)
        .value("gelu", Activation::gelu)
        .value("gelu_tanh", Activation::gelu_tanh)
        .value("relu", Activation::relu);

    nb::class_<Rope>(m, "Rope")
        .def(nb::init<bool, std::vector<float>, float>(), "interleaved"_a, "inverse_frequencies"_a, "magnitude"_a = 1.0f);

    nb::class_<DecoderShape>(m, "DecoderShape")
        .def(nb::init<>())
        .def_rw("n_layers", &DecoderShape::n_layers)
        .def_rw("n_embd", &DecoderShape::n_embd)
        .def_rw("n_heads", &DecoderShape::n_heads)
        .def_rw("n_kv_heads", &DecoderShape::n_kv_heads)
        .def_rw("head_dim", &DecoderShape::head_dim)
        .def_rw("n_ff", &DecoderShape::n_ff)
        .def_rw("vocab_size", &DecoderShape::vocab_size)
        .def_rw("ropes", &DecoderShape::ropes)
        .def_rw("layer_ropes", &DecoderShape::layer_ropes)
        .def_rw("long_rope", &DecoderShape::long_rope, nb::arg().none())
        .def_rw("window_tokens", &DecoderShape::window_tokens)
        .def_rw("page_groups", &DecoderShape::page_groups)
        .def_rw("norm_epsilon", &DecoderShape::norm_epsilon)
        .def_rw("layer_norm", &DecoderShape::layer_norm)
        .def_rw("norms_sum", &DecoderShape::norms_sum)
        .def_rw("parallel", &DecoderShape::parallel)
        .def_rw("gated", &DecoderShape::gated)
        .def_rw("causal", &DecoderShape::causal)
        .def_rw("activation", &DecoderShape::activation)
        .def_rw("n_experts", &DecoderShape::n_experts)
        .def_rw("n_experts_used", &DecoderShape::n_experts_used)
        .def_rw("experts_normalized", &DecoderShape::experts_normalized)
        .def_rw("attention_scale", &DecoderShape::attention_scale, nb::arg().none())
        .def_rw("attention_softcap", &DecoderShape::attention_softcap, nb::arg().none())
        .def_rw("logit_softcap", &DecoderShape::logit_softcap, nb::arg().none())
        .def_rw("embedding_scale", &DecoderShape::embedding_scale)
        .def_rw("residual_scale", &DecoderShape::residual_scale)
        .def_rw("logit_scale", &DecoderShape::logit_scale);
}

void bind_decoder(nb::module_& m) {
    nb::enum_<KvType>(m, "KvType").value("f16", KvType::f16).value("int8", KvType::int8);

    nb::enum_<Input>(m, "Input")
        .value("attention", Input::attention)
        .value("attention_output", Input::attention_output)
        .value("ffn", Input::ffn)
        .value("ffn_down", Input::ffn_down);

    nb::class_<Decoder>(m, "Decoder")
        .def(nb::init<DecoderShape, int, const std::string&, float, KvType>(), "shape"_a, "n_threads"_a, "isa"_a,
             "outlier"_a = 0.0f, "kv_type"_a = KvType::f16)
        .def(
            "set_tensor",
            [](Decoder& self, const std::string& name, uint32_t type, int rows, int columns, const Octets& bytes) {
                const std::span<const uint8_t> data{bytes.data(), bytes.size()};
                nb::gil_scoped_release release;
                self.set_tensor(name, type, rows, columns, data);
            },
            "name"_a, "type"_a, "rows"_a, "columns"_a, "data"_a)
        .def("complete", &Decoder::complete)
        .def(
            "reserve_pages", [](Decoder& self, int n) { self.cache().reserve(n); }, "n"_a,
            nb::call_guard<nb::gil_scoped_release>())
        .def("copy_page", [](Decoder& self, int from, int to) { self.cache().copy(from, to); }, "source"_a, "target"_a)
        .def("read_page", [](const Decoder& self, int page) { return copy_of(self.cache().read(page)); }, "page"_a)
        .def(
            "write_page",
            [](Decoder& self, int page, const Octets& bytes) { self.cache().write(page, {bytes.data(), bytes.size()}); },
            "page"_a, "data"_a)
        .def("add_adapter", [](Decoder& self) { return self.adapters().add(); })
        .def(
            "set_adapter_matrix",
            [](Decoder& self, int id, const std::string& name, int rank, const std::pair<uint32_t, Octets>& a,
               const std::pair<uint32_t, Octets>& b) {
                self.adapters().set(id, name, rank, {a.first, {a.second.data(), a.second.size()}},
                                    {b.first, {b.second.data(), b.second.size()}}, self.pool());
            },
            "adapter"_a, "name"_a, "rank"_a, "a"_a, "b"_a)
        .def("remove_adapter", [](Decoder& self, int id) { self.adapters().remove(id); }, "adapter"_a)
        .def(
            "step",
            [](Decoder& self, const Ints& tokens, const Ints& positions, const Ints& sequences, const Table& page_tables,
               const Ints& outputs, bool wants_logits, const std::optional<Ints>& long_rope,
               const std::optional<Ints>& adapters, const std::optional<Reals>& adapter_scales, const std::optional<Ints>& types,
               bool trace, bool inputs) {
                const Batch batch{.tokens = span_of(tokens),
                                  .positions = span_of(positions),
                                  .sequences = span_of(sequences),
                                  .page_tables = {page_tables.data(), page_tables.size()},
                                  .page_table_stride = int(page_tables.shape(1)),
                                  .n_groups = self.cache().n_groups(),
                                  .outputs = span_of(outputs),
                                  .wants_logits = wants_logits,
                                  .long_rope = span_of(long_rope),
                                  .adapters = span_of(adapters),
                                  .adapter_scales = span_of(adapter_scales),
                                  .types = span_of(types),
                                  .trace = trace,
                                  .inputs = inputs};
                nb::gil_scoped_release release;
                self.step(batch);
            },
            "tokens"_a, "positions"_a, "sequences"_a, "page_tables"_a, "outputs"_a, nb::kw_only(), "wants_logits"_a = true,
            "long_rope"_a = nb::none(), "adapters"_a = nb::none(), "adapter_scales"_a = nb::none(), "types"_a = nb::none(),
            "trace"_a = false, "inputs"_a = false)
        .def(
            "log_probabilities",
            [](const Decoder& self, int row, const Ints& tokens) {
                const std::span<const int32_t> wanted = span_of(tokens);
                nb::gil_scoped_release release;
                const std::span<const float> logits = self.logits(row);
                std::vector<float> scratch, found;
                const LogSoftmax log_softmax(logits, self.kernels(), scratch);
                for (const int32_t token : wanted) {
                    if (token < 0 || size_t(token) >= logits.size()) throw std::invalid_argument("a token id is outside of the vocabulary");
                    found.push_back(log_softmax(logits[token]));
                }
                return std::pair(found, int(std::max_element(logits.begin(), logits.end()) - logits.begin()));
            },
            "row"_a, "tokens"_a)
        .def("logits", [](const Decoder& self, int row) { return copy_of(self.logits(row)); }, "row"_a)
        .def("hidden", [](const Decoder& self, int row) { return copy_of(self.hidden(row)); }, "row"_a)
        .def("traced_hidden", [](const Decoder& self) {
            const size_t layers = size_t(self.shape().n_layers), n = size_t(self.trace().n_tokens());
            return copy_of<float, 3>(self.trace().hidden(), {layers + 1, n, size_t(self.shape().n_embd)});
        })
        .def("traced_attention", [](const Decoder& self) {
            const size_t layers = size_t(self.shape().n_layers), heads = size_t(self.shape().n_heads);
            const size_t n = size_t(self.trace().n_tokens()), positions = size_t(self.trace().n_positions());
            return copy_of<float, 4>(self.trace().attention(), {layers, heads, n, positions});
        })
        .def("drop_trace", &Decoder::drop_trace)
        .def(
            "kept_inputs",
            [](const Decoder& self, int layer, Input place) {
                const std::span<const float> kept = self.inputs().of(layer, place);
                return copy_of<float, 2>(kept, {size_t(self.inputs().rows(place)), size_t(self.inputs().width(place))});
            },
            "layer"_a, "place"_a)
        .def(
            "kept_slots",
            [](const Decoder& self, int layer) {
                const std::span<const Inputs::Slot> slots = self.inputs().slots(layer);
                return copy_of<int32_t, 2>({reinterpret_cast<const int32_t*>(slots.data()), 2 * slots.size()}, {slots.size(), 2});
            },
            "layer"_a)
        .def("drop_inputs", &Decoder::drop_inputs)
        .def(
            "read_out",
            [](Decoder& self, const Matrix& states) {
                if (int(states.shape(1)) != self.shape().n_embd) throw std::invalid_argument("a state has n_embd elements");
                nb::gil_scoped_release release;
                self.read_out({states.data(), states.size()});
            },
            "states"_a)
        .def_prop_ro("n_pages", [](const Decoder& self) { return self.cache().n_pages(); })
        .def_prop_ro("page_bytes", [](const Decoder& self) { return self.cache().page_bytes(); })
        .def_prop_ro("weight_bytes", &Decoder::weight_bytes)
        .def_prop_ro("n_threads", &Decoder::n_threads)
        .def_prop_ro("isa", [](const Decoder& self) { return std::string(self.kernels().name); });
}

void bind_sampler(nb::module_& m) {
    nb::exception<NothingAllowed>(m, "NothingAllowed", PyExc_RuntimeError);
    nb::class_<SamplerOptions>(m, "SamplerOptions")
        .def(nb::init<>())
        .def_rw("temperature", &SamplerOptions::temperature)
        .def_rw("top_k", &SamplerOptions::top_k)
        .def_rw("top_p", &SamplerOptions::top_p)
        .def_rw("min_p", &SamplerOptions::min_p)
        .def_rw("repeat_penalty", &SamplerOptions::repeat_penalty)
        .def_rw("presence_penalty", &SamplerOptions::presence_penalty)
        .def_rw("frequency_penalty", &SamplerOptions::frequency_penalty)
        .def_rw("repeat_last_n", &SamplerOptions::repeat_last_n)
        .def_rw("seed", &SamplerOptions::seed)
        .def_rw("bias", &SamplerOptions::bias);

    nb::class_<Choice>(m, "Choice")
        .def_ro("token", &Choice::token)
        .def_ro("logprob", &Choice::logprob)
        .def_ro("alternatives", &Choice::alternatives);

    nb::class_<Sampler>(m, "Sampler")
        .def(nb::init<SamplerOptions>(), "options"_a)
        .def("accept", [](Sampler& self, const Ints& tokens) { self.accept(span_of(tokens)); }, "tokens"_a)
        .def(
            "sample",
            [](Sampler& self, const Decoder& decoder, int row, int n_alternatives, const std::optional<Bits>& mask) {
                const std::span<const uint32_t> allowed = span_of(mask);
                nb::gil_scoped_release release;
                return self.sample(decoder.logits(row), decoder.kernels(), n_alternatives, allowed);
            },
            "decoder"_a, "row"_a, "n_alternatives"_a = -1, "mask"_a.none() = nb::none())
        .def(
            "foresee",
            [](Sampler& self, const Decoder& decoder, int row) {
                nb::gil_scoped_release release;
                return self.foresee(decoder.logits(row), decoder.kernels());
            },
            "decoder"_a, "row"_a)
        .def(
            "take",
            [](Sampler& self, const Decoder& decoder, int row, int token, int n_alternatives) {
                nb::gil_scoped_release release;
                return self.take(decoder.logits(row), decoder.kernels(), n_alternatives, token);
            },
            "decoder"_a, "row"_a, "token"_a, "n_alternatives"_a = -1)
        .def(
            "sample_from",
            [](Sampler& self, const Reals& logits, int n_alternatives, const std::optional<Bits>& mask) {
                return self.sample(span_of(logits), select_kernels(""), n_alternatives, span_of(mask));
            },
            "logits"_a, "n_alternatives"_a = -1, "mask"_a.none() = nb::none(), "The same on logits of the caller's own.")
        .def(
            "foresee_from", [](Sampler& self, const Reals& logits) { return self.foresee(span_of(logits), select_kernels("")); },
            "logits"_a)
        .def(
            "take_from",
            [](Sampler& self, const Reals& logits, int token, int n_alternatives) {
                return self.take(span_of(logits), select_kernels(""), n_alternatives, token);
            },
            "logits"_a, "token"_a, "n_alternatives"_a = -1);
}

}  // namespace

NB_MODULE(_core, m) {
    m.attr("PAGE_TOKENS") = kPageTokens;
    m.def("divergences", &divergences, "reference"_a, "logits"_a, "targets"_a,
          "KL and log-probabilities of the targets [n, 3], and whether the likeliest tokens agree [n].");
    m.def("available_isas", &available_isas, "Instruction sets that can run here, best first.");
    bind_types(m);
    bind_shape(m);
    bind_decoder(m);
    bind_sampler(m);
}
