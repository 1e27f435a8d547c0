// How a packed block of each quantized type becomes bytes, scales and minima: the one place that knows their planes.

// One block of 16 rows x 32 columns, unpacked: value = scale * (quant - zero) + min, per half block of 16 columns where the
// form has halves. Quants are unsigned, or signed and prepared (prepare_signed).
struct Block {
    Bytes quants[8];
    F32 scale[2], min[2];
};

template <Type type>
constexpr Form kForm = form_of(type);
template <Type type>
constexpr bool kSigned8 = kForm<type>.bits == 8 || kForm<type>.coded;

// What a product has to do for a type: types that are alike in it share its code.
struct ProductForm {
    bool has_halves, has_min, is_signed;
    int largest;  // quant
    int zero;
};

template <Type type>
constexpr ProductForm product_form() {
    constexpr Form form = kForm<type>;
    return {form.halves, form.minimum != Minimum::Offset, kSigned8<type>, kSigned8<type> ? 255 : (1 << (form.bits + form.high_bits)) - 1,
            kSigned8<type> ? kSignedZero : -form.offset};
}

template <Type type>
static inline void load_low_bits(const uint8_t* quants, Block& block) {
    if constexpr (kForm<type>.bits == 8)
        for (int j = 0; j < 8; ++j) block.quants[j] = prepare_signed(load_bytes(quants + 64 * j));
    if constexpr (kForm<type>.bits == 4)
        for (int j = 0; j < 4; ++j) {
            const Bytes packed = load_bytes(quants + 64 * j);
            block.quants[j] = low_nibbles(packed);
            block.quants[j + 4] = high_nibbles(packed);
        }
    if constexpr (kForm<type>.bits == 2)
        for (int v = 0; v < 2; ++v) {
            const Bytes packed = load_bytes(quants + 64 * v);
            Bytes* q = block.quants + 4 * v;
            q[0] = pairs_of<0>(packed);
            q[1] = pairs_of<1>(packed);
            q[2] = pairs_of<2>(packed);
            q[3] = pairs_of<3>(packed);
        }
}

template <Type type>
static inline void load_high_bits(const uint8_t* high, Block& block) {
    if constexpr (kForm<type>.high_bits == 1)
        for (int j = 0; j < 8; ++j) block.quants[j] = with_bits<1 << kForm<type>.bits>(block.quants[j], high + 8 * j);
    if constexpr (kForm<type>.high_bits == 2)
        for (int v = 0; v < 2; ++v) {
            const Bytes pairs = load_bytes(high + 64 * v);
            Bytes* q = block.quants + 4 * v;
            q[0] = with_pairs<0>(q[0], pairs);
            q[1] = with_pairs<1>(q[1], pairs);
            q[2] = with_pairs<2>(q[2], pairs);
            q[3] = with_pairs<3>(q[3], pairs);
        }
}

template <Type type>
static inline void load_quants(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    load_low_bits<type>(group + planes.quants + size_t(b) * kForm<type>.quants_bytes(), block);
    load_high_bits<type>(group + planes.high + size_t(b) * kForm<type>.high_bytes(), block);
    if constexpr (kForm<type>.coded) {
        const Bytes codes = prepare_signed(broadcast16(traits.codes));
        for (Bytes& quants : block.quants) quants = lookup(codes, quants);
    }
}

template <Type type>
static inline F32 load_scale(const TypeTraits& traits, const uint8_t* scales, const uint8_t* supers) {
    constexpr Form form = kForm<type>;
    if constexpr (form.scale == Scale::Half) return load_half((const uint16_t*)scales);
    if constexpr (form.scale == Scale::Exponent) return load_exponents(scales);
    const F32 super = load_half((const uint16_t*)supers);
    if constexpr (form.scale == Scale::Signed && form.coded) return mul(mul(super, load_i8(scales)), broadcast(traits.factor));
    if constexpr (form.scale == Scale::Signed) return mul(super, load_i8(scales));
    if constexpr (form.scale == Scale::Unsigned) return mul(super, load_u8(scales));
    if constexpr (form.scale == Scale::Nibbles) return mul(super, load_low_nibbles(scales));
    return super;
}

template <Type type>
static inline F32 load_min(const uint8_t* scales, const uint8_t* mins, const uint8_t* supers) {
    constexpr Form form = kForm<type>;
    if constexpr (form.minimum == Minimum::Half) return load_half((const uint16_t*)mins);
    if constexpr (form.minimum == Minimum::Super) {
        const F32 small = form.scale == Scale::Nibbles ? load_high_nibbles(scales) : load_u8(mins);
        return sub(zero(), mul(load_half((const uint16_t*)(supers + 2 * kLanes)), small));
    }
    return zero();
}

template <Type type, int half>
static inline void load_half_scales(const TypeTraits& traits, const uint8_t* scales, const uint8_t* mins, const uint8_t* supers, Block& block) {
    block.scale[half] = load_scale<type>(traits, scales + half * kLanes, supers);
    block.min[half] = load_min<type>(scales + half * kLanes, mins, supers);
}

template <Type type>
static inline void load_scales(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int b, Block& block) {
    const uint8_t* scales = group + planes.scales + size_t(b) * kForm<type>.scales_bytes();
    const uint8_t* mins = group + planes.mins + size_t(b) * kForm<type>.mins_bytes();
    const uint8_t* supers = group + planes.supers + size_t(b / kSuperBlocks) * kForm<type>.supers_bytes();
    load_half_scales<type, 0>(traits, scales, mins, supers, block);
    if constexpr (kForm<type>.halves) load_half_scales<type, 1>(traits, scales, mins, supers, block);
}
