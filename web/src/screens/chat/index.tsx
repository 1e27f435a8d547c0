import { Drawer } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { useState } from "react";
import { useLocation, useRoute } from "wouter";
import { NARROW } from "@/app/Shell";
import { useShortcut } from "@/app/shortcuts";
import { persisted, useStore } from "@/app/store";
import { useText } from "@/i18n";
import classes from "./Chat.module.css";
import { Conversation } from "./Conversation";
import { SessionList } from "./SessionList";
import { SourcePanel } from "./SourcePanel";
import { openSource } from "./sources";

const isListShown = persisted("list", true, (value) => (typeof value === "boolean" ? value : undefined));

/** Conversations at the side, one of them in the middle, and the source that was asked for. */
export default function Chat() {
  const text = useText();
  const [, go] = useLocation();
  const [, match] = useRoute("/chat/:id");
  const id = match?.id ?? null;
  const isNarrow = useMediaQuery(NARROW, window.matchMedia(NARROW).matches);
  const shown = useStore(isListShown);
  const [isDrawerOpen, setDrawerOpen] = useState(false);
  const source = useStore(openSource);
  const [searches, setSearches] = useState(0);

  useShortcut("mod+shift+o", () => go("/chat"));
  useShortcut("mod+k", () => {
    if (isNarrow) setDrawerOpen(true);
    else isListShown.set(true);
    setSearches((n) => n + 1);
  });

  const list = <SessionList current={id} searches={searches} onChosen={() => setDrawerOpen(false)} />;
  return (
    <div className={classes.chat} data-source={source !== null || undefined}>
      {isNarrow ? (
        <Drawer
          opened={isDrawerOpen}
          onClose={() => setDrawerOpen(false)}
          size={300}
          title={text.chat.sessions}
          closeButtonProps={{ "aria-label": text.app.close }}
          styles={{ body: { height: "calc(100% - 3.75rem)", padding: 0 } }}
        >
          {list}
        </Drawer>
      ) : (
        shown && <aside className={classes.list}>{list}</aside>
      )}
      <Conversation
        key={id ?? "new"}
        id={id}
        isListShown={!isNarrow && shown}
        onToggleList={() => (isNarrow ? setDrawerOpen(true) : isListShown.set(!shown))}
      />
      {source !== null && <SourcePanel source={source} isNarrow={isNarrow} onClose={() => openSource.set(null)} />}
    </div>
  );
}
