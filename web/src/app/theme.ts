import { createTheme, type MantineColorsTuple, type MantineThemeOverride } from "@mantine/core";

// Celadon, the green of old Korean pottery.
const celadon: MantineColorsTuple = [
  "#eff7f3",
  "#dcece4",
  "#b8d8c9",
  "#90c3ac",
  "#6fb193",
  "#4c9c7a",
  "#358764",
  "#257955",
  "#1c6b4a",
  "#12563a",
];

// Neutral greys with a breath of green, from white paper to ink.
const dark: MantineColorsTuple = [
  "#d6dbd8",
  "#bcc3bf",
  "#949d98",
  "#6c7571",
  "#434b47",
  "#323936",
  "#272d2a",
  "#1c211f",
  "#161a18",
  "#101312",
];

const FONTS =
  'Pretendard, "Pretendard Variable", -apple-system, BlinkMacSystemFont, "Segoe UI Variable Text", "Segoe UI", Inter, ' +
  'Roboto, "Apple SD Gothic Neo", "Noto Sans KR", "Noto Sans CJK KR", "Malgun Gothic", NanumGothic, ' +
  '"Helvetica Neue", sans-serif';
const FONTS_OF_CODE =
  'ui-monospace, SFMono-Regular, "Cascadia Mono", Menlo, Consolas, "D2Coding", "Noto Sans Mono CJK KR", ' +
  '"NanumGothicCoding", monospace';

export const theme: MantineThemeOverride = createTheme({
  primaryColor: "celadon",
  primaryShade: { light: 8, dark: 7 },
  colors: { celadon, dark },
  fontFamily: FONTS,
  fontFamilyMonospace: FONTS_OF_CODE,
  headings: { fontFamily: FONTS, fontWeight: "650" },
  defaultRadius: "md",
  focusRing: "auto",
  cursorType: "pointer",
  respectReducedMotion: true,
  components: {
    ActionIcon: { defaultProps: { variant: "subtle", color: "gray" } },
    Tooltip: { defaultProps: { openDelay: 400, withArrow: false, fz: "xs" } },
    Modal: { defaultProps: { centered: true, transitionProps: { duration: 120 } } },
    Drawer: { defaultProps: { transitionProps: { duration: 150 } } },
  },
});
