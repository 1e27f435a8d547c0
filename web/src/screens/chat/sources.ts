import { Store } from "@/app/store";
import type { Source } from "./facts";

/** The source whose passage is shown beside the conversation. */
export const openSource = new Store<Source | null>(null);
