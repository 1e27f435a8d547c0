import { Button } from "@mantine/core";
import { IconFileUpload } from "@tabler/icons-react";
import { type DragEvent, type ReactNode, useRef, useState } from "react";
import { useTable } from "@/i18n/table";
import classes from "./Documents.module.css";
import { texts } from "./texts";

interface Props {
  name: string;
  isEmpty: boolean;
  onFiles: (files: File[]) => void;
  children: ReactNode;
}

/** Takes files anywhere on the collection's page, and by a button for who does not drag. */
export function DropArea({ name, isEmpty, onFiles, children }: Props) {
  const own = useTable(texts);
  const input = useRef<HTMLInputElement>(null);
  const [nInside, setInside] = useState(0); // entering a part comes before leaving the one around it
  const dragged = (change: (n: number) => number) => (event: DragEvent) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setInside(change);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setInside(0);
    onFiles([...event.dataTransfer.files]);
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: what dropping does, the button does too
    <div
      onDragEnter={dragged((n) => n + 1)}
      onDragLeave={dragged((n) => Math.max(0, n - 1))}
      onDragOver={dragged((n) => n)}
      onDrop={drop}
    >
      <div className={classes.drop} data-over={nInside > 0 || undefined} data-large={isEmpty || undefined}>
        <IconFileUpload size={isEmpty ? 34 : 26} stroke={1.4} aria-hidden />
        <div className={classes.dropWords}>
          <strong>{own.drop}</strong>
          <p className={classes.quiet}>{own.dropWhy}</p>
        </div>
        <Button variant="light" aria-label={`${own.choose}: ${own.addTo(name)}`} onClick={() => input.current?.click()}>
          {own.choose}
        </Button>
        <input
          ref={input}
          type="file"
          multiple
          hidden
          aria-label={own.addTo(name)}
          onChange={(event) => {
            onFiles([...(event.currentTarget.files ?? [])]);
            event.currentTarget.value = ""; // the same file may be chosen again
          }}
        />
      </div>
      {children}
    </div>
  );
}
