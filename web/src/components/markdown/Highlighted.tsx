import "./highlight.css";
import type { RootContent } from "hast";
import { common, createLowlight } from "lowlight";
import { Fragment, memo, type ReactNode } from "react";

const lowlight = createLowlight(common);

/** Code in colours, as elements; plain where the language is not known. */
export default memo(function Highlighted({ code, language }: { code: string; language: string }) {
  const name = language.toLowerCase();
  return lowlight.registered(name) ? shown(lowlight.highlight(name, code).children) : code;
});

function shown(nodes: readonly RootContent[]): ReactNode {
  return nodes.map((node, index) => {
    if (node.type === "text") return node.value;
    if (node.type !== "element") return null;
    const names = node.properties.className;
    return (
      // biome-ignore lint/suspicious/noArrayIndexKey: parts of one text, which change together
      <Fragment key={index}>
        <span className={Array.isArray(names) ? names.join(" ") : undefined}>{shown(node.children)}</span>
      </Fragment>
    );
  });
}
