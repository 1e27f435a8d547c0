// The searches: which scale, or scale and minimum, leaves the smallest weighted squared error. 16 blocks at once, one a lane.
//
// Given a scale, the best quants are the nearest levels; given the quants, the best scale is a least-squares fit. Neither
// alone finds the best pair, since the error has a minimum of its own between any two scales at which some quant changes. So:
// try scales in small steps, judge each by what the fit to its quants leaves, and alternate from the best one.

// Levels: the multiples of a scale that quants stand for. A sweep tries scales from `first`, where 1 puts the largest value
// on the outermost level and less clips it, in `steps` steps of `ratio`.
template <int low_, int high_>
struct Uniform {
    static constexpr float low = low_, high = high_;
    static constexpr int span = high_ - low_;
    static constexpr float first = span < 8 ? 0.35f : span < 16 ? 0.5f : span < 32 ? 0.65f : span < 64 ? 0.8f : 0.95f;
    static constexpr float ratio = span < 8 ? 1.06f : span < 16 ? 1.035f : span < 32 ? 1.02f : span < 64 ? 1.012f : 1.004f;
    static constexpr int steps = span < 8 ? 21 : span < 16 ? 24 : span < 32 ? 25 : span < 64 ? 21 : 16;

    static F32 level(F32 y) { return nearest(clamp(y, low, high)); }
    static uint8_t index(float level) { return uint8_t(int(level) - low_); }
};

// Quants of Q8_0 are the levels themselves.
struct Signed : Uniform<-127, 127> {
    static uint8_t index(float level) { return uint8_t(int8_t(level)); }
};

struct Coded {
    static constexpr float codes[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    static constexpr float low = -127, high = 113;
    static constexpr float first = 0.5f, ratio = 1.035f;
    static constexpr int steps = 24;

    static F32 level(F32 y) {
        F32 level = broadcast(codes[0]);
        for (int i = 1; i < 16; ++i)
            level = add(level, zero_below(broadcast(codes[i] - codes[i - 1]), y, broadcast((codes[i] + codes[i - 1]) / 2)));
        return level;
    }
    static uint8_t index(float level) {
        int i = 0;
        while (codes[i] != level) ++i;
        return uint8_t(i);
    }
};

// 16 blocks or sub-blocks of n columns and what an error of each costs.
template <int n>
struct Lanes {
    F32 x[n], w[n];
};

template <int n>
static Lanes<n> load_lanes(const float* values, const float* weights) {
    Lanes<n> v;
    for (int i = 0; i < n; ++i) {
        float x[16], w[16];
        for (int lane = 0; lane < 16; ++lane) {
            x[lane] = values[lane * n + i];
            w[lane] = weights[lane * n + i];
        }
        v.x[i] = load(x);
        v.w[i] = load(w);
    }
    return v;
}

// ---- One scale: x ~ d q

// What the nearest levels leave: sums of w r r, w r q and w q q, with r = x - d q. Sums of what is left, not of x, so that
// they stay exact where 8 bits leave a millionth.
struct ScaleResidual {
    F32 rr, rq, qq;

    F32 correction() const { return quotient(rq, qq); }                   // of d, by least squares
    F32 error_after() const { return sub(rr, mul(correction(), rq)); }
};

template <class Levels, int n>
static ScaleResidual residual(const Lanes<n>& v, F32 d) {
    const F32 id = inverse(d);
    ScaleResidual s{zero(), zero(), zero()};
    for (int i = 0; i < n; ++i) {
        const F32 q = Levels::level(mul(v.x[i], id));
        const F32 r = sub(v.x[i], mul(d, q)), wr = mul(v.w[i], r);
        s.rr = add(s.rr, mul(wr, r));
        s.rq = add(s.rq, mul(wr, q));
        s.qq = add(s.qq, mul(mul(v.w[i], q), q));
    }
    return s;
}

template <class Levels, int n>
static F32 error_of(const Lanes<n>& v, F32 d) { return residual<Levels>(v, d).rr; }

template <int n>
static F32 top_of(const Lanes<n>& v) {
    F32 top = zero();
    for (int i = 0; i < n; ++i) top = choose(abs(top), abs(v.x[i]), top, v.x[i]);
    return top;
}

template <class Levels, int n>
static F32 fit_scale(const Lanes<n>& v) {
    const F32 top = top_of(v);
    F32 best = zero(), error = broadcast(3e38f);
    for (const float outermost : {Levels::low, Levels::high}) {
        F32 d = mul(top, broadcast(Levels::first / outermost));
        for (int step = 0; step < Levels::steps; ++step) {
            const ScaleResidual s = residual<Levels>(v, d);
            const F32 e = s.error_after();
            best = choose(e, error, best, add(d, s.correction()));
            error = min(error, e);
            d = mul(d, broadcast(Levels::ratio));
        }
    }
    for (int i = 0; i < 2; ++i) best = add(best, residual<Levels>(v, best).correction());
    return best;
}

// The float16 next to d that leaves least. It is d's nearest but for scales so small that float16 has few of them.
template <class Levels, int n>
static F32 best_half(const Lanes<n>& v, F32 d) {
    F32 halves[3];
    half_neighbours(d, halves);
    F32 best = halves[0], error = residual<Levels>(v, best).rr;
    for (int i = 1; i < 3; ++i) {
        const F32 e = residual<Levels>(v, halves[i]).rr;
        best = choose(e, error, best, halves[i]);
        error = min(error, e);
    }
    return best;
}

// ---- Scale and minimum: x ~ d q + m

struct Line {
    F32 d, m;
};

// The same sums with r = x - d q - m; `w` is the sum of weights.
struct LineResidual {
    F32 rr, r, rq, q, qq, w;

    // The best change of m where d changes by dd.
    F32 shift(F32 dd) const { return quotient(sub(r, mul(dd, q)), w); }
    F32 correction() const {
        const F32 mean = quotient(q, w);
        return quotient(sub(rq, mul(mean, r)), sub(qq, mul(mean, q)));
    }
    F32 error_after(F32 dd, F32 dm) const {
        const F32 linear = add(mul(dd, rq), mul(dm, r));
        const F32 square = add(mul(dd, add(mul(dd, qq), mul(dm, q))), mul(dm, add(mul(dd, q), mul(dm, w))));
        return add(sub(rr, add(linear, linear)), square);
    }
};

template <class Levels, int n>
static LineResidual residual(const Lanes<n>& v, F32 w, Line line) {
    const F32 id = inverse(line.d);
    LineResidual s{zero(), zero(), zero(), zero(), zero(), w};
    for (int i = 0; i < n; ++i) {
        const F32 x = sub(v.x[i], line.m), q = Levels::level(mul(x, id));
        const F32 r = sub(x, mul(line.d, q)), wr = mul(v.w[i], r), wq = mul(v.w[i], q);
        s.rr = add(s.rr, mul(wr, r));
        s.r = add(s.r, wr);
        s.rq = add(s.rq, mul(wr, q));
        s.q = add(s.q, wq);
        s.qq = add(s.qq, mul(wq, q));
    }
    return s;
}

template <int n>
static F32 weight_of(const Lanes<n>& v) {
    F32 w = zero();
    for (int i = 0; i < n; ++i) w = add(w, v.w[i]);
    return w;
}

// Minima of super-blocks have one sign each: `side` times m must not be above 0. A side of 0 leaves m free.
static inline F32 allowed(F32 m, F32 side) { return choose(abs(side), broadcast(1), mul(side, min(mul(side, m), zero())), m); }

// The least-squares line through the quants of `line`, with m as allowed, and the error that it leaves.
static inline Line improved(const LineResidual& s, Line line, F32 side, F32& error) {
    F32 dd = s.correction();
    const F32 dm = sub(allowed(add(line.m, s.shift(dd)), side), line.m);
    // With that m; the same d where m was free to follow.
    dd = quotient(sub(s.rq, mul(dm, s.q)), s.qq);
    error = s.error_after(dd, dm);
    return {add(line.d, dd), add(line.m, dm)};
}

// The best line of those tried, and the error that it leaves.
struct BestLine {
    Line line{zero(), zero()};
    F32 error = broadcast(3e38f);

    void keep_better(Line found, F32 e) {
        line = {choose(e, error, line.d, found.d), choose(e, error, line.m, found.m)};
        error = min(error, e);
    }
};

template <class Levels, int n>
static void try_line(const Lanes<n>& v, F32 w, Line line, F32 side, BestLine& best) {
    F32 error;
    const Line found = improved(residual<Levels>(v, w, line), line, side, error);
    best.keep_better(found, error);
}

// Lines whose ends are drawn in from those of the range, by some of its steps.
template <class Levels, int n>
static void try_ranges(const Lanes<n>& v, F32 w, F32 side, BestLine& best) {
    constexpr float narrow[] = {-0.1f, 0.1f, 0.22f, 0.36f, 0.5f, 0.7f}, wide[] = {-0.2f, 0.25f, 0.65f, 1.1f, 1.7f, 2.5f};
    const auto& ends = Levels::span < 8 ? narrow : wide;
    F32 low = v.x[0], high = v.x[0];
    for (int i = 1; i < n; ++i) {
        low = min(low, v.x[i]);
        high = max(high, v.x[i]);
    }
    // Where no minimum may lift the lines, they begin at 0.
    low = choose(side, broadcast(1), min(low, zero()), low);
    const F32 step = mul(sub(high, low), broadcast(1 / Levels::high));
    for (const float below : ends) {
        const F32 m = add(low, mul(step, broadcast(below)));
        for (const float above : ends) {
            const F32 d = mul(sub(sub(high, mul(step, broadcast(above))), m), broadcast(1 / Levels::high));
            try_line<Levels>(v, w, {d, allowed(m, side)}, side, best);
        }
    }
}

// Steeper and flatter lines than the best one, through its lower, middle and upper values.
template <class Levels, int n>
static void try_slopes(const Lanes<n>& v, F32 w, F32 side, float reach, BestLine& best) {
    const Line middle = best.line;
    for (const float change : {-1.0f, -0.5f, 0.5f, 1.0f}) {
        const F32 dd = mul(middle.d, broadcast(reach * change));
        for (const float at : {0.0f, 0.5f, 1.0f}) {
            const F32 m = allowed(sub(middle.m, mul(dd, broadcast(at * Levels::high))), side);
            try_line<Levels>(v, w, {add(middle.d, dd), m}, side, best);
        }
    }
}

template <class Levels, int n>
static Line fit_line(const Lanes<n>& v, F32 w, F32 side) {
    BestLine best;
    try_ranges<Levels>(v, w, side, best);
    for (int i = 0; i < 2; ++i) try_line<Levels>(v, w, best.line, side, best);
    constexpr float reach = Levels::span < 20 ? 0.06f : 0.03f;
    for (const float part : {1.0f, 0.6f}) try_slopes<Levels>(v, w, side, part * reach, best);
    try_line<Levels>(v, w, best.line, side, best);
    return best.line;
}
