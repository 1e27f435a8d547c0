import { lazy, Suspense } from "react";
import { CopyButton } from "../CopyButton";
import classes from "./Markdown.module.css";

const Highlighted = lazy(() => import("./Highlighted"));

const MOST_HIGHLIGHTED = 60_000; // characters

/** Code with its language and a button that copies it. While it grows it is plain: colours come once, at its end. */
export function CodeBlock({ code, language, isOpen }: { code: string; language: string; isOpen: boolean }) {
  const name = language.split(/\s/)[0] ?? "";
  const isPlain = isOpen || name === "" || code.length > MOST_HIGHLIGHTED;
  return (
    <figure className={classes.code}>
      <figcaption>
        <span>{name}</span>
        <CopyButton text={() => code} size={26} />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: long lines are scrolled with the keyboard too */}
      <pre tabIndex={0}>
        <code>
          {isPlain ? (
            code
          ) : (
            <Suspense fallback={code}>
              <Highlighted code={code} language={name} />
            </Suspense>
          )}
        </code>
      </pre>
    </figure>
  );
}
