import {
  IconActivity,
  IconArrowsDiff,
  IconBooks,
  IconCube,
  IconMessage,
  IconSettings,
  IconTextRecognition,
  type TablerIcon,
} from "@tabler/icons-react";
import { type ComponentType, lazy } from "react";
import type { Text } from "@/i18n";

export type ScreenName = keyof Text["screens"];

interface Screen {
  name: ScreenName;
  icon: TablerIcon;
  /** Each screen is a folder of `screens/` whose index exports it by default, loaded when it is first shown. */
  part: ComponentType;
}

/** In the order of the navigation. The server's table of page paths (server/webpage.py) has the same names. */
export const SCREENS: readonly Screen[] = [
  { name: "chat", icon: IconMessage, part: lazy(() => import("@/screens/chat")) },
  { name: "documents", icon: IconBooks, part: lazy(() => import("@/screens/documents")) },
  { name: "models", icon: IconCube, part: lazy(() => import("@/screens/models")) },
  { name: "compare", icon: IconArrowsDiff, part: lazy(() => import("@/screens/compare")) },
  { name: "monitor", icon: IconActivity, part: lazy(() => import("@/screens/monitor")) },
  { name: "tokens", icon: IconTextRecognition, part: lazy(() => import("@/screens/tokens")) },
  { name: "settings", icon: IconSettings, part: lazy(() => import("@/screens/settings")) },
];

/** "/chat/ses_1" -> "chat"; the first screen for "/". */
export function screenOf(path: string): ScreenName | null {
  const first = path.split("/")[1] ?? "";
  if (first === "") return "chat";
  return SCREENS.find((screen) => screen.name === first)?.name ?? null;
}
