import "@mantine/core/styles/SegmentedControl.layer.css";
import "@mantine/core/styles/Progress.layer.css";
import { useRoute } from "wouter";
import { Collections } from "./Collections";
import { CollectionView } from "./CollectionView";
import { DocumentView } from "./DocumentView";

/** `/documents`, `/documents/:collection`, `/documents/:collection/:document#chunk`. */
export default function Documents() {
  const [isDocument, document] = useRoute("/documents/:collection/:document");
  const [isCollection, collection] = useRoute("/documents/:collection");
  if (isDocument) return <DocumentView collection={decoded(document.collection)} id={decoded(document.document)} />;
  if (isCollection) return <CollectionView key={collection.collection} name={decoded(collection.collection)} />;
  return <Collections />;
}

/** Parts of the path may come as they were written. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
