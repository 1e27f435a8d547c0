import { Loader } from "@mantine/core";
import { IconPlugConnectedX } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { connection, historyState, look } from "@/api/connection";
import { useText } from "@/i18n";
import classes from "./ServerBanner.module.css";
import { useStore } from "./store";

const CALM_MS = 15_000;
const ANXIOUS_MS = 1500;

/** Says that the server is gone or unwell, asks until it is back, and then has every screen look again. */
export function ServerBanner() {
  const text = useText();
  const state = useStore(connection);
  const history = useStore(historyState);
  const queries = useQueryClient();
  const wasGone = useRef(false);

  useEffect(() => {
    void look();
    const timer = setInterval(() => document.hidden || void look(), state === "ok" ? CALM_MS : ANXIOUS_MS);
    return () => clearInterval(timer);
  }, [state]);

  useEffect(() => {
    if (state === "ok" && wasGone.current) void queries.invalidateQueries();
    wasGone.current = state !== "ok";
  }, [state, queries]);

  if (state !== "ok") {
    return (
      <div className={classes.banner} role="status">
        <IconPlugConnectedX size={18} stroke={1.6} aria-hidden />
        <span>{state === "gone" ? text.server.gone : text.server.stopping}</span>
        <Loader size={14} color="currentColor" />
      </div>
    );
  }
  if (history === "ok") return null;
  return (
    <div className={classes.banner} role="status">
      <span>
        {text.server.history} {history}
      </span>
    </div>
  );
}
