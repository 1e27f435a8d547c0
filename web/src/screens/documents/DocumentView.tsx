import { IconMapPin } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { memo, useEffect, useMemo, useRef } from "react";
import { Link } from "wouter";
import { useLocationProperty } from "wouter/use-browser-location";
import { Loaded } from "@/components/Loaded";
import { Screen } from "@/components/Screen";
import { useFormats, useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { BackLink } from "./BackLink";
import classes from "./DocumentView.module.css";
import { outlineOf, type Piece, piecesOf } from "./pieces";
import { documentQuery, placeOf, type WholeDocument } from "./queries";
import { texts } from "./texts";

/** A document as it was read: its text in chunks, open at the one that the address names. */
export function DocumentView({ collection, id }: { collection: string; id: string }) {
  const text = useText();
  const own = useTable(texts);
  const document = useQuery(documentQuery(collection, id));
  return (
    <Screen title={document.data?.title ?? text.screens.documents}>
      <BackLink href={placeOf(collection)}>{own.backTo(collection)}</BackLink>
      <Loaded of={document}>{(whole) => <Opened collection={collection} document={whole} />}</Loaded>
    </Screen>
  );
}

function Opened({ collection, document }: { collection: string; document: WholeDocument }) {
  const own = useTable(texts);
  const hash = useLocationProperty(() => location.hash);
  const chosen = decodeURIComponent(hash.slice(1));
  const pieces = useMemo(() => piecesOf(document), [document]);
  const outline = useMemo(() => outlineOf(pieces), [pieces]);
  const isLost = chosen !== "" && !pieces.some((piece) => piece.chunk === chosen);
  return (
    <>
      <Facts document={document} />
      {isLost && (
        <p className={classes.lost} role="status">
          {own.lost}
        </p>
      )}
      <div className={classes.columns} data-outline={outline.length > 1 || undefined}>
        {outline.length > 1 && (
          <nav className={classes.outline} aria-label={own.outline}>
            <ul>
              {outline.map((entry) => (
                <li key={entry.chunk} data-depth={Math.min(entry.depth, 3)}>
                  <Link href={placeOf(collection, document.id, entry.chunk)}>{entry.heading}</Link>
                </li>
              ))}
            </ul>
          </nav>
        )}
        <section className={classes.text} aria-label={own.text}>
          {pieces.map((piece, index) => (
            <PieceView
              key={piece.chunk ?? `between-${index}`}
              piece={piece}
              nChunks={document.chunks.length}
              isChosen={piece.chunk !== null && piece.chunk === chosen}
            />
          ))}
        </section>
      </div>
    </>
  );
}

function Facts({ document }: { document: WholeDocument }) {
  const own = useTable(texts);
  const { bytes, count, time } = useFormats();
  const told = Object.entries(document.facts).flatMap(([name, value]): [string, string][] => {
    const label = own.facts[name as keyof typeof own.facts] ?? name;
    const shown = Array.isArray(value) ? value.map(String).join(", ") : value;
    return typeof shown === "string" || typeof shown === "number" ? [[label, String(shown)]] : [];
  });
  const rows: [string, string][] = [
    [own.source, document.source],
    [own.type, document.media_type],
    [own.size, `${bytes(document.size_bytes)}, ${own.characters(count(document.n_characters))}`],
    [own.text, own.chunks(count(document.n_chunks))],
    [own.added, time(document.added_at)],
    ...told,
  ];
  return (
    <>
      <dl className={classes.facts}>
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {document.notes.length > 0 && (
        <p className={classes.notes}>
          {own.notes}: {document.notes.join(" ")}
        </p>
      )}
    </>
  );
}

interface PieceProps {
  piece: Piece;
  nChunks: number;
  isChosen: boolean;
}

const PieceView = memo(function PieceView({ piece, nChunks, isChosen }: PieceProps) {
  const own = useTable(texts);
  const { count } = useFormats();
  const part = useRef<HTMLElement>(null);
  useEffect(() => {
    if (!isChosen) return;
    part.current?.scrollIntoView({ block: "center" });
    part.current?.focus({ preventScroll: true });
  }, [isChosen]);
  if (piece.chunk === null) return <p className={classes.between}>{piece.text}</p>;
  const place = [...piece.headings, ...(piece.page === null ? [] : [own.page(piece.page)]), piece.speaker];
  return (
    <article
      ref={part}
      id={piece.chunk}
      className={classes.chunk}
      data-chosen={isChosen || undefined}
      tabIndex={-1}
      aria-label={own.chunk(count(piece.number), count(nChunks))}
    >
      <header className={classes.chunkHead}>
        <span>{piece.isNewSection || isChosen ? place.filter(Boolean).join(" › ") : ""}</span>
        <span className={classes.number} aria-hidden>
          {piece.number}
        </span>
      </header>
      {isChosen && (
        <p className={classes.chosen}>
          <IconMapPin size={15} aria-hidden /> {own.chosen}
        </p>
      )}
      <p className={classes.chunkText}>{piece.text}</p>
    </article>
  );
});
