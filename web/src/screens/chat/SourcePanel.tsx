import { CloseButton, Drawer, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { LoadingState } from "@/components/States";
import { useText } from "@/i18n";
import type { Source } from "./facts";
import { documentQuery } from "./queries";
import classes from "./SourcePanel.module.css";

const AROUND = 6000; // characters of the document before and after the passage

interface Props {
  source: Source;
  isNarrow: boolean;
  onClose: () => void;
}

/** The document of a source, open at the passage that was cited. */
export function SourcePanel({ source, isNarrow, onClose }: Props) {
  const text = useText();
  if (isNarrow) {
    return (
      <Drawer
        opened
        onClose={onClose}
        position="bottom"
        size="75%"
        title={text.sources.passage}
        closeButtonProps={{ "aria-label": text.sources.close }}
      >
        <Passage source={source} />
      </Drawer>
    );
  }
  return (
    <aside className={classes.panel} aria-label={text.sources.cite(source.n, source.title)}>
      <CloseButton className={classes.close ?? ""} aria-label={text.sources.close} onClick={onClose} />
      <Passage source={source} />
    </aside>
  );
}

function Passage({ source }: { source: Source }) {
  const text = useText();
  const document = useQuery(documentQuery(source.collection, source.document));
  const mark = useRef<HTMLElement>(null);
  const whole = document.data ?? "";
  // A document that was read in again may have moved: then the passage as it was cited is what counts.
  const isThere = whole.slice(source.start, source.end) === source.text;

  // biome-ignore lint/correctness/useExhaustiveDependencies: another passage is scrolled to, too
  useEffect(() => mark.current?.scrollIntoView({ block: "center" }), [source, isThere]);

  return (
    <div className={classes.content}>
      <header className={classes.head}>
        <span className={classes.number}>{source.n}</span>
        <div>
          <h2 className={classes.title}>{source.title}</h2>
          <Text size="xs" c="var(--page-faint)">
            {[...source.headings, ...(source.page === null ? [] : [text.sources.page(source.page)])].join(" › ")}
          </Text>
        </div>
      </header>
      {document.isPending ? (
        <LoadingState />
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled with the keyboard too
        <div className={classes.text} tabIndex={0}>
          {isThere ? (
            <>
              {whole.slice(Math.max(0, source.start - AROUND), source.start)}
              <mark ref={mark}>{source.text}</mark>
              {whole.slice(source.end, source.end + AROUND)}
            </>
          ) : (
            <>
              <p className={classes.note}>{text.sources.onlyPassage}</p>
              <mark ref={mark}>{source.text}</mark>
            </>
          )}
        </div>
      )}
    </div>
  );
}
