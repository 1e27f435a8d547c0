import { EmptyState } from "@/components/States";
import { useText } from "@/i18n";

export default function Chat() {
  const text = useText();
  return <EmptyState title={text.app.notBuilt} />;
}
